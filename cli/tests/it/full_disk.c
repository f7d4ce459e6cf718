/* A disk that is full, as one program sees it: no file below $FULL_DISK grows beyond $FULL_DISK_ROOM bytes. Loaded in
 * front of the C library, so that it needs no rights and works within any container. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static int is_full(int fd, off_t end) {
    const char *dir = getenv("FULL_DISK"), *room = getenv("FULL_DISK_ROOM");
    if (!dir || !room || end <= atoll(room))
        return 0;
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    if (strncmp(path, dir, strlen(dir)) != 0)
        return 0;
    errno = ENOSPC;
    return 1;
}

static off_t here(int fd) {
    int before = errno;
    off_t at = lseek(fd, 0, SEEK_CUR);
    errno = before;
    return at < 0 ? 0 : at;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *from, size_t bytes) {
    return is_full(fd, here(fd) + (off_t)bytes) ? -1 : NEXT(write)(fd, from, bytes);
}

ssize_t writev(int fd, const struct iovec *from, int count) {
    off_t end = here(fd);
    for (int i = 0; i < count; i++)
        end += (off_t)from[i].iov_len;
    return is_full(fd, end) ? -1 : NEXT(writev)(fd, from, count);
}

ssize_t pwrite(int fd, const void *from, size_t bytes, off_t at) {
    return is_full(fd, at + (off_t)bytes) ? -1 : NEXT(pwrite)(fd, from, bytes, at);
}

ssize_t pwrite64(int fd, const void *from, size_t bytes, off64_t at) {
    return is_full(fd, at + (off_t)bytes) ? -1 : NEXT(pwrite64)(fd, from, bytes, at);
}

ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t bytes, unsigned flags) {
    off_t end = (to_at ? *to_at : here(to)) + (off_t)bytes;
    return is_full(to, end) ? -1 : NEXT(copy_file_range)(from, from_at, to, to_at, bytes, flags);
}
