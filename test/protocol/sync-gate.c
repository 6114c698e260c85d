/* Preloaded into the server: storage that is slow to become durable, or fails to.
 *
 * While the file $SYNC_GATE/shut exists, fsync() and fdatasync() wait; while $SYNC_GATE/broken
 * exists, they fail with EIO.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int exists(const char* name) {
  char path[4096];
  const char* gate = getenv("SYNC_GATE");
  if (gate == NULL) return 0;
  snprintf(path, sizeof path, "%s/%s", gate, name);
  return access(path, F_OK) == 0;
}

static int pass(const char* function, int fd) {
  while (exists("shut")) usleep(2000);
  if (exists("broken")) {
    errno = EIO;
    return -1;
  }
  int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, function);
  return real(fd);
}

int fsync(int fd) { return pass("fsync", fd); }
int fdatasync(int fd) { return pass("fdatasync", fd); }
