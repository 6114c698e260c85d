#include "image_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cerrno>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "system_error.h"
#include "unique_fd.h"

namespace aoe {

namespace {

struct HeldLock {
  // A duplicate: the caller's may be closed before the last lock is given back. What is in flight on
  // either keeps the lock, also when this process is gone; and where a lock takes the right to write
  // (NFS), the caller's has it.
  UniqueFd fd;
  uint32_t holders = 0;
};

std::mutex mutex;
std::map<std::string, HeldLock> held;  // by device and inode

Napi::Value Fail(Napi::Env env, const char* syscall) {
  ThrowSystemError(env, {errno, syscall});
  return env.Undefined();
}

Napi::Value LockImage(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const int fd = info[0].As<Napi::Number>();
  struct stat stats {};
  if (fstat(fd, &stats) < 0) return Fail(env, "fstat");
  const std::string key = std::to_string(stats.st_dev) + ":" + std::to_string(stats.st_ino);
  std::lock_guard guard(mutex);
  auto found = held.find(key);
  if (found == held.end()) {
    UniqueFd own(fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (!own.is_open()) return Fail(env, "fcntl(F_DUPFD_CLOEXEC)");
    if (flock(own.get(), LOCK_EX | LOCK_NB) < 0) {
      if (errno == EWOULDBLOCK) return env.Undefined();
      return Fail(env, "flock");
    }
    found = held.emplace(key, HeldLock{std::move(own)}).first;
  }
  found->second.holders++;
  return Napi::String::New(env, key);
}

void UnlockImage(const Napi::CallbackInfo& info) {
  const std::string key = info[0].As<Napi::String>();
  std::lock_guard guard(mutex);
  const auto found = held.find(key);
  if (found != held.end() && --found->second.holders == 0) held.erase(found);
}

}  // namespace

void RegisterImageLock(Napi::Env env, Napi::Object exports) {
  exports.Set("lockImage", Napi::Function::New<LockImage>(env));
  exports.Set("unlockImage", Napi::Function::New<UnlockImage>(env));
}

}  // namespace aoe
