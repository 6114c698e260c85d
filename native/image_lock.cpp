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

using FileKey = std::pair<dev_t, ino_t>;

struct HeldLock {
  UniqueFd fd;  // of our own: the caller's may be closed before the last lock is given back
  uint32_t holders = 0;
};

std::mutex mutex;
std::map<FileKey, HeldLock> held;

bool KeyOf(int fd, FileKey* key) {
  struct stat stats {};
  if (fstat(fd, &stats) < 0) return false;
  *key = {stats.st_dev, stats.st_ino};
  return true;
}

Napi::Value Fail(Napi::Env env, const char* syscall) {
  ThrowSystemError(env, {errno, syscall});
  return env.Undefined();
}

Napi::Value LockImage(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const int fd = info[0].As<Napi::Number>();
  FileKey key;
  if (!KeyOf(fd, &key)) return Fail(env, "fstat");
  std::lock_guard guard(mutex);
  auto found = held.find(key);
  if (found == held.end()) {
    const std::string path = "/proc/self/fd/" + std::to_string(fd);
    UniqueFd own(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!own.is_open()) return Fail(env, "open");
    if (flock(own.get(), LOCK_EX | LOCK_NB) < 0) {
      if (errno == EWOULDBLOCK) return Napi::Boolean::New(env, false);
      return Fail(env, "flock");
    }
    found = held.emplace(key, HeldLock{std::move(own)}).first;
  }
  found->second.holders++;
  return Napi::Boolean::New(env, true);
}

Napi::Value UnlockImage(const Napi::CallbackInfo& info) {
  FileKey key;
  if (!KeyOf(info[0].As<Napi::Number>(), &key)) return Fail(info.Env(), "fstat");
  std::lock_guard guard(mutex);
  const auto found = held.find(key);
  if (found != held.end() && --found->second.holders == 0) held.erase(found);
  return info.Env().Undefined();
}

}  // namespace

void RegisterImageLock(Napi::Env env, Napi::Object exports) {
  exports.Set("lockImage", Napi::Function::New<LockImage>(env));
  exports.Set("unlockImage", Napi::Function::New<UnlockImage>(env));
}

}  // namespace aoe
