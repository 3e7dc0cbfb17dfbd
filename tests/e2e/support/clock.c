// CLOCK_MONOTONIC as a test wants it, for LD_PRELOAD: put forward, so that the worker's own limits pass
// without being waited for and without a setting that shortens them, or failing once, which makes Rust's
// `Instant::now` panic.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// The file named by TEST_CLOCK, which the test writes.
static struct {
    _Atomic long ahead;          // seconds
    _Atomic long inference_fails;  // the next reading by an inference thread fails
} *shared;

__attribute__((constructor)) static void map_shared(void) {
    const char *path = getenv("TEST_CLOCK");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *mapped = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (mapped == MAP_FAILED) {
        _exit(125);
    }
    close(file);
    shared = mapped;
}

static int is_inference(void) {
    char name[16] = "";
    prctl(PR_GET_NAME, name);
    return strncmp(name, "infer-", 6) == 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (failed || clock != CLOCK_MONOTONIC || !shared) {
        return failed;
    }
    if (shared->inference_fails && is_inference() && atomic_exchange(&shared->inference_fails, 0)) {
        errno = EINVAL;
        return -1;
    }
    now->tv_sec += shared->ahead;
    return 0;
}
