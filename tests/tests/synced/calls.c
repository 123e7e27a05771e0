/* Stands between a program and the C library (LD_PRELOAD). Tells in the file $CALLS_LOG of each write to a file at a
 * place and of each sync, when it begins and when it has returned. Syncs fail for as long as the file $CALLS_FAIL is
 * there. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

static void tell(const char *call, long bytes, int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    int log = open(getenv("CALLS_LOG"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log >= 0) {
        dprintf(log, "%s %ld %.*s\n", call, bytes, length > 0 ? (int)length : 0, path);
        close(log);
    }
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    ssize_t (*next)(int, const void *, size_t, off64_t) = dlsym(RTLD_NEXT, "pwrite64");
    ssize_t written = next(fd, bytes, count, at);
    int error = errno;
    tell("write", (long)written, fd);
    errno = error;
    return written;
}

static int sync_with(const char *name, int fd) {
    if (access(getenv("CALLS_FAIL"), F_OK) == 0) {
        errno = EIO;
        return -1;
    }
    int (*next)(int) = dlsym(RTLD_NEXT, name);
    tell("syncing", 0, fd);
    int outcome = next(fd);
    int error = errno;
    tell("sync", outcome, fd);
    errno = error;
    return outcome;
}

int fdatasync(int fd) {
    return sync_with("fdatasync", fd);
}

int fsync(int fd) {
    return sync_with("fsync", fd);
}
