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

// What has an image locked.
struct ImageLock {
  UniqueFd fd;
  bool is_exclusive = false;
};

std::mutex mutex;
// By device and inode. Duplicates: a caller's descriptor may be closed before the last lock is given
// back. What is in flight on either keeps the lock, also when this process is gone; and where an
// exclusive lock takes the right to write (NFS), the caller's has it.
std::map<std::string, ImageLock> images;
std::map<int32_t, Part> parts;  // by lock
int32_t last_lock = 0;

bool Collide(const Part& a, const Part& b) {
  return a.image == b.image && (a.writes || b.writes) && a.start < b.end && b.start < a.end;
}

bool TryLock(int fd, int kind) { return flock(fd, kind | LOCK_NB) == 0; }

// Exclusive, but on NFS shared for who cannot write: it keeps off those who can.
bool LockFile(ImageLock& own) {
  own.is_exclusive = TryLock(own.fd.get(), LOCK_EX);
  return own.is_exclusive || (errno == EBADF && TryLock(own.fd.get(), LOCK_SH));
}

// Locks for a writer what a reader here has locked shared, which would keep the writer off as well.
bool TakeOver(const ImageLock& shared, ImageLock& own) {
  flock(shared.fd.get(), LOCK_UN);
  own.is_exclusive = TryLock(own.fd.get(), LOCK_EX);
  if (own.is_exclusive) return true;
  const int reason = errno;
  TryLock(shared.fd.get(), LOCK_SH);
  errno = reason;
  return false;
}

template <typename Predicate>
bool AnyPart(Predicate predicate) {
  return std::ranges::any_of(parts, [&](const auto& entry) { return predicate(entry.second); });
}

Napi::Value LockImage(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const int fd = info[0].As<Napi::Number>();
  struct stat stats {};
  if (fstat(fd, &stats) < 0) return Fail(env, {errno, "fstat"});
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
  const auto held = images.find(part.image);
  const bool is_held = held != images.end();
  if (!is_held || (part.writes && !held->second.is_exclusive)) {
    ImageLock own{.fd = UniqueFd(fcntl(fd, F_DUPFD_CLOEXEC, 0))};
    if (!own.fd.is_open()) return Fail(env, {errno, "fcntl(F_DUPFD_CLOEXEC)"});
    if (!(is_held ? TakeOver(held->second, own) : LockFile(own))) {
      if (errno == EWOULDBLOCK) return Napi::Number::New(env, kHeldElsewhere);
      return Fail(env, {errno, "flock"});
    }
    images.insert_or_assign(part.image, std::move(own));
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
      last = std::move(images.extract(image).mapped().fd);
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
