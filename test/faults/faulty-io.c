// Preloaded into the server: each system call of its file I/O can be made to fail, or to do less
// than it was asked for, which is its right.
//
// A file $FAULTY_IO/<function> holds what becomes of that function: an errno, or 0 for moving one
// sector at most. io_uring_submit stands for all that goes through io_uring; there, any errno is
// EBADF. With io_uring_enter the kernel takes none of it, and the server has to come back with all
// of it. When io_uring_queue_init_params fails, the server does without io_uring.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

enum { kSector = 512, kNoFault = -1 };

static int FaultOf(const char* function) {
  const char* folder = getenv("FAULTY_IO");
  if (folder == NULL) return kNoFault;
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", folder, function);
  FILE* file = fopen(path, "r");
  if (file == NULL) return kNoFault;
  int fault = kNoFault;
  if (fscanf(file, "%d", &fault) != 1) fault = kNoFault;
  fclose(file);
  return fault;
}

#define REAL(function) ((__typeof__(&function))dlsym(RTLD_NEXT, #function))

// Begins a function that may fail as a whole.
#define MAY_FAIL(function)                  \
  const int fault = FaultOf(#function);     \
  if (fault > 0) {                          \
    errno = fault;                          \
    return -1;                              \
  }

static size_t Least(size_t size, int fault) {
  return fault == 0 && size > kSector ? kSector : size;
}

ssize_t pread64(int fd, void* data, size_t size, off64_t offset) {
  MAY_FAIL(pread64)
  return REAL(pread64)(fd, data, Least(size, fault), offset);
}

ssize_t pwrite64(int fd, const void* data, size_t size, off64_t offset) {
  MAY_FAIL(pwrite64)
  return REAL(pwrite64)(fd, data, Least(size, fault), offset);
}

ssize_t preadv64v2(int fd, const struct iovec* vector, int count, off64_t offset, int flags) {
  MAY_FAIL(preadv64v2)
  struct iovec least = {vector->iov_base, Least(vector->iov_len, fault)};
  return REAL(preadv64v2)(fd, fault == 0 ? &least : vector, count, offset, flags);
}

int fdatasync(int fd) {
  MAY_FAIL(fdatasync)
  return REAL(fdatasync)(fd);
}

int fsync(int fd) {
  MAY_FAIL(fsync)
  return REAL(fsync)(fd);
}

int fallocate64(int fd, int mode, off64_t offset, off64_t size) {
  MAY_FAIL(fallocate64)
  return REAL(fallocate64)(fd, mode, offset, size);
}

int io_uring_submit(struct io_uring* ring) {
  const int refused = FaultOf("io_uring_enter");
  if (refused > 0) return -refused;
  const int fault = FaultOf("io_uring_submit");
  for (unsigned at = ring->sq.sqe_head; fault != kNoFault && at != ring->sq.sqe_tail; at++) {
    struct io_uring_sqe* entry = &ring->sq.sqes[at & ring->sq.ring_mask];
    if (fault > 0) entry->fd = -1;
    entry->len = (unsigned)Least(entry->len, fault);
  }
  return REAL(io_uring_submit)(ring);
}

int io_uring_queue_init_params(unsigned entries, struct io_uring* ring,
                               struct io_uring_params* params) {
  const int fault = FaultOf("io_uring_queue_init_params");
  return fault > 0 ? -fault : REAL(io_uring_queue_init_params)(entries, ring, params);
}
