#include "file_tasks.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <string>

#include "file_system.h"
#include "unique_fd.h"

namespace aoe {

namespace {

int Int(const Napi::Value& value) { return value.As<Napi::Number>(); }
off_t Offset(const Napi::Value& value) { return value.As<Napi::Number>().Int64Value(); }
std::string Path(const Napi::Value& value) { return value.As<Napi::String>(); }

// What a system call returned, or the error that it left.
double Result(int64_t result) { return static_cast<double>(result < 0 ? -errno : result); }

double CountData(int fd, off_t start, off_t end) {
  off_t bytes = 0;
  for (off_t at = start; at < end;) {
    const off_t data = lseek(fd, at, SEEK_DATA);
    if (data < 0 && errno != ENXIO) return Result(-1);
    if (data < 0 || data >= end) break;
    const off_t hole = lseek(fd, data, SEEK_HOLE);
    at = hole < 0 ? end : std::min(hole, end);
    bytes += at - data;
  }
  return static_cast<double>(bytes);
}

double SizeOf(int fd) {
  struct stat status{};
  return Result(fstat(fd, &status) < 0 ? -1 : status.st_size);
}

double FlushEntries(const std::string& path) {
  const UniqueFd directory(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory.is_open()) return Result(-1);
  return -Uninterrupted([&] { return fsync(directory.get()); });
}

double FlushAll(const std::string& path) {
  const UniqueFd file(open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!file.is_open()) return Result(-1);
  return -Uninterrupted([&] { return syncfs(file.get()); });
}

double FreeOn(const std::string& path) {
  struct statvfs status{};
  if (statvfs(path.c_str(), &status) < 0) return Result(-1);
  return static_cast<double>(status.f_bavail) * static_cast<double>(status.f_frsize);
}

}  // namespace

void FileTasks::Register(Napi::Env env, Napi::Object exports) {
  exports.Set("FileTasks", DefineClass(env, "FileTasks",
                                       {
                                           InstanceMethod<&FileTasks::Open>("open"),
                                           InstanceMethod<&FileTasks::Close>("close"),
                                           InstanceMethod<&FileTasks::Flush>("flush"),
                                           InstanceMethod<&FileTasks::Size>("size"),
                                           InstanceMethod<&FileTasks::Read>("read"),
                                           InstanceMethod<&FileTasks::Write>("write"),
                                           InstanceMethod<&FileTasks::Allocate>("allocate"),
                                           InstanceMethod<&FileTasks::Punch>("punch"),
                                           InstanceMethod<&FileTasks::DataBytes>("dataBytes"),
                                           InstanceMethod<&FileTasks::Rename>("rename"),
                                           InstanceMethod<&FileTasks::Unlink>("unlink"),
                                           InstanceMethod<&FileTasks::FlushDirectory>(
                                               "flushDirectory"),
                                           InstanceMethod<&FileTasks::FlushFileSystem>(
                                               "flushFileSystem"),
                                           InstanceMethod<&FileTasks::FreeBytes>("freeBytes"),
                                       }));
}

FileTasks::FileTasks(const Napi::CallbackInfo& info)
    : ObjectWrap(info), threads_(info.This().As<Napi::Object>(), info[0].As<Napi::Number>()) {}

Napi::Value FileTasks::Open(const Napi::CallbackInfo& info) {
  return threads_.Run({}, [path = Path(info[0]), flags = Int(info[1]), mode = Int(info[2])] {
    return Result(open(path.c_str(), flags | O_CLOEXEC, mode));
  });
}

Napi::Value FileTasks::Close(const Napi::CallbackInfo& info) {
  return threads_.Run({}, [fd = Int(info[0])] { return Result(close(fd)); });
}

Napi::Value FileTasks::Flush(const Napi::CallbackInfo& info) {
  return threads_.Run({}, [fd = Int(info[0])] { return static_cast<double>(-FlushData(fd)); });
}

Napi::Value FileTasks::Size(const Napi::CallbackInfo& info) {
  return threads_.Run({}, [fd = Int(info[0])] { return SizeOf(fd); });
}

Napi::Value FileTasks::Read(const Napi::CallbackInfo& info) {
  auto bytes = info[1].As<Napi::Uint8Array>();
  return threads_.Run({bytes}, [fd = Int(info[0]), data = bytes.Data(), length = bytes.ByteLength(),
                                position = Offset(info[2])] {
    size_t done = 0;
    const int error = ReadOn(fd, data, length, position, &done);
    return error != 0 ? -error : static_cast<double>(done);
  });
}

Napi::Value FileTasks::Write(const Napi::CallbackInfo& info) {
  auto bytes = info[1].As<Napi::Uint8Array>();
  const auto length = static_cast<size_t>(Offset(info[2]));
  const bool flush = info[4].As<Napi::Boolean>();
  return threads_.Run({bytes}, [=, fd = Int(info[0]), data = bytes.Data(),
                                position = Offset(info[3])] {
    size_t done = 0;
    const int error = WriteOn(fd, data, length, position, &done);
    if (error != 0) return static_cast<double>(-error);
    return static_cast<double>(flush ? -FlushData(fd) : 0);
  });
}

Napi::Value FileTasks::Allocate(const Napi::CallbackInfo& info) {
  return threads_.Run({}, [fd = Int(info[0]), size = Offset(info[1])] {
    return static_cast<double>(-Uninterrupted([=] { return fallocate(fd, 0, 0, size); }));
  });
}

Napi::Value FileTasks::Punch(const Napi::CallbackInfo& info) {
  return threads_.Run({}, [fd = Int(info[0]), offset = Offset(info[1]), length = Offset(info[2])] {
    return static_cast<double>(-PunchHole(fd, offset, length));
  });
}

Napi::Value FileTasks::DataBytes(const Napi::CallbackInfo& info) {
  return threads_.Run({}, [fd = Int(info[0]), start = Offset(info[1]), length = Offset(info[2])] {
    return CountData(fd, start, start + length);
  });
}

Napi::Value FileTasks::Rename(const Napi::CallbackInfo& info) {
  return threads_.Run({}, [from = Path(info[0]), to = Path(info[1])] {
    return Result(rename(from.c_str(), to.c_str()));
  });
}

Napi::Value FileTasks::Unlink(const Napi::CallbackInfo& info) {
  return threads_.Run({}, [path = Path(info[0])] { return Result(unlink(path.c_str())); });
}

Napi::Value FileTasks::FlushDirectory(const Napi::CallbackInfo& info) {
  return threads_.Run({}, [path = Path(info[0])] { return FlushEntries(path); });
}

Napi::Value FileTasks::FlushFileSystem(const Napi::CallbackInfo& info) {
  return threads_.Run({}, [path = Path(info[0])] { return FlushAll(path); });
}

Napi::Value FileTasks::FreeBytes(const Napi::CallbackInfo& info) {
  return threads_.Run({}, [path = Path(info[0])] { return FreeOn(path); });
}

}  // namespace aoe
