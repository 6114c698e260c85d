#include "image_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "system_error.h"
#include "unique_fd.h"

namespace aoe {

namespace {

constexpr int32_t kHeldElsewhere = 0;
constexpr int32_t kHeldHere = -1;

// What one target serves of an image, in bytes; `end` may be infinite.
struct Part {
  std::string image;
  double start;
  double end;
  bool writes;
};

std::mutex mutex;
// By device and inode. Duplicates: a caller's descriptor may be closed before the last lock is given
// back. What is in flight on either keeps the lock, also when this process is gone; and where an
// exclusive lock takes the right to write (NFS), the caller's has it.
std::map<std::string, UniqueFd> images;
std::map<int32_t, Part> parts;  // by lock
int32_t last_lock = 0;

Napi::Value Fail(Napi::Env env, const char* syscall) {
  ThrowSystemError(env, {errno, syscall});
  return env.Undefined();
}

bool Collide(const Part& a, const Part& b) {
  return a.image == b.image && (a.writes || b.writes) && a.start < b.end && b.start < a.end;
}

// Exclusive, but on NFS shared for who cannot write: it keeps off those who can.
int LockFile(int fd) {
  const int result = flock(fd, LOCK_EX | LOCK_NB);
  return result < 0 && errno == EBADF ? flock(fd, LOCK_SH | LOCK_NB) : result;
}

template <typename Predicate>
bool AnyPart(Predicate predicate) {
  return std::ranges::any_of(parts, [&](const auto& entry) { return predicate(entry.second); });
}

Napi::Value LockImage(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const int fd = info[0].As<Napi::Number>();
  struct stat stats {};
  if (fstat(fd, &stats) < 0) return Fail(env, "fstat");
  Part part{
      .image = std::to_string(stats.st_dev) + ":" + std::to_string(stats.st_ino),
      .start = info[1].As<Napi::Number>(),
      .end = info[2].As<Napi::Number>(),
      .writes = info[3].As<Napi::Boolean>(),
  };
  std::lock_guard guard(mutex);
  if (AnyPart([&](const Part& other) { return Collide(part, other); })) {
    return Napi::Number::New(env, kHeldHere);
  }
  if (!images.contains(part.image)) {
    UniqueFd own(fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (!own.is_open()) return Fail(env, "fcntl(F_DUPFD_CLOEXEC)");
    if (LockFile(own.get()) < 0) {
      if (errno == EWOULDBLOCK) return Napi::Number::New(env, kHeldElsewhere);
      return Fail(env, "flock");
    }
    images.emplace(part.image, std::move(own));
  }
  parts.emplace(++last_lock, std::move(part));
  return Napi::Number::New(env, last_lock);
}

Napi::Value UnlockImage(const Napi::CallbackInfo& info) {
  const int32_t lock = info[0].As<Napi::Number>();
  UniqueFd last;
  {
    std::lock_guard guard(mutex);
    const auto part = parts.extract(lock);
    const std::string& image = part.mapped().image;
    if (!AnyPart([&](const Part& other) { return other.image == image; })) {
      last = std::move(images.extract(image).mapped());
    }
  }
  return Napi::Number::New(info.Env(), last.Release());
}

}  // namespace

void RegisterImageLock(Napi::Env env, Napi::Object exports) {
  exports.Set("lockImage", Napi::Function::New<LockImage>(env));
  exports.Set("unlockImage", Napi::Function::New<UnlockImage>(env));
}

}  // namespace aoe
