#include "files.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "file_system.h"
#include "system_error.h"

namespace aoe {

namespace {

int FdOf(const Napi::CallbackInfo& info) { return info[0].As<Napi::Number>(); }

Napi::Value AllocateSlab(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const auto size = static_cast<size_t>(info[0].As<Napi::Number>().Int64Value());
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return Fail(env, {errno, "mmap"});
  return Napi::ArrayBuffer::New(env, memory, size);
}

void PreferLargePages(const Napi::CallbackInfo& info) {
  auto buffer = info[0].As<Napi::ArrayBuffer>();
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto start = reinterpret_cast<uintptr_t>(buffer.Data());
  const uintptr_t first = (start + page - 1) / page * page;
  const uintptr_t end = (start + buffer.ByteLength()) / page * page;
  // Where the kernel has none, all stays as it is.
  if (first < end) madvise(reinterpret_cast<void*>(first), end - first, MADV_HUGEPAGE);
}

Napi::Value CreateMemoryFile(const Napi::CallbackInfo& info) {
  const std::string name = info[0].As<Napi::String>();
  const int fd = memfd_create(name.c_str(), MFD_CLOEXEC);
  if (fd < 0) return Fail(info.Env(), {errno, "memfd_create"});
  return Napi::Number::New(info.Env(), fd);
}

Napi::Value LiesInMemory(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), IsMemoryFile(FdOf(info)));
}

Napi::Value KnownFileSize(const Napi::CallbackInfo& info) {
  FileLook look;
  const int error = LookAt(FdOf(info), Freshness::kKnown, &look);
  if (error != 0) return Fail(info.Env(), {error, "statx"});
  return Napi::Number::New(info.Env(), static_cast<double>(look.size_bytes));
}

Napi::Value LockFile(const Napi::CallbackInfo& info) {
  if (flock(FdOf(info), LOCK_EX | LOCK_NB) == 0) return Napi::Boolean::New(info.Env(), true);
  if (errno == EWOULDBLOCK) return Napi::Boolean::New(info.Env(), false);
  return Fail(info.Env(), {errno, "flock"});
}

Napi::Value BlockDeviceSize(const Napi::CallbackInfo& info) {
  uint64_t size = 0;
  if (ioctl(FdOf(info), BLKGETSIZE64, &size) < 0) {
    return Fail(info.Env(), {errno, "ioctl(BLKGETSIZE64)"});
  }
  return Napi::Number::New(info.Env(), static_cast<double>(size));
}

Napi::Value LogicalBlockSize(const Napi::CallbackInfo& info) {
  struct stat stats {};
  if (fstat(FdOf(info), &stats) < 0) return Fail(info.Env(), {errno, "fstat"});
  if (!S_ISBLK(stats.st_mode)) {
    struct statx extended {};
    if (statx(FdOf(info), "", AT_EMPTY_PATH, STATX_DIOALIGN, &extended) < 0) {
      return Fail(info.Env(), {errno, "statx"});
    }
    if ((extended.stx_mask & STATX_DIOALIGN) == 0) return Napi::Number::New(info.Env(), 512);
    const uint32_t alignment = std::max(extended.stx_dio_offset_align, extended.stx_dio_mem_align);
    return Napi::Number::New(info.Env(), alignment);
  }
  int size = 0;
  if (ioctl(FdOf(info), BLKSSZGET, &size) < 0) return Fail(info.Env(), {errno, "ioctl(BLKSSZGET)"});
  return Napi::Number::New(info.Env(), size);
}

Napi::Value CanPunchHole(const Napi::CallbackInfo& info) {
  struct stat stats {};
  if (fstat(FdOf(info), &stats) < 0) return Fail(info.Env(), {errno, "fstat"});
  // Beyond the end there is nothing to lose, so trying is safe.
  constexpr off_t kBlock = 4096;
  const off_t beyond = (stats.st_size / kBlock + 1) * kBlock;
  return Napi::Boolean::New(info.Env(), PunchHole(FdOf(info), beyond, kBlock) == 0);
}

}  // namespace

void RegisterFiles(Napi::Env env, Napi::Object exports) {
  exports.Set("allocateSlab", Napi::Function::New<AllocateSlab>(env));
  exports.Set("preferLargePages", Napi::Function::New<PreferLargePages>(env));
  exports.Set("createMemoryFile", Napi::Function::New<CreateMemoryFile>(env));
  exports.Set("isMemoryFile", Napi::Function::New<LiesInMemory>(env));
  exports.Set("knownFileSize", Napi::Function::New<KnownFileSize>(env));
  exports.Set("lockFile", Napi::Function::New<LockFile>(env));
  exports.Set("canPunchHole", Napi::Function::New<CanPunchHole>(env));
  exports.Set("blockDeviceSize", Napi::Function::New<BlockDeviceSize>(env));
  exports.Set("logicalBlockSize", Napi::Function::New<LogicalBlockSize>(env));
}

}  // namespace aoe
