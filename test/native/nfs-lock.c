// Preloaded: flock() as it is on NFS, where an exclusive lock takes the right to write.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>

int flock(int fd, int operation) {
  int (*const real)(int, int) = dlsym(RTLD_NEXT, "flock");
  if ((operation & LOCK_EX) != 0 && (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY) {
    errno = EBADF;
    return -1;
  }
  return real(fd, operation);
}
