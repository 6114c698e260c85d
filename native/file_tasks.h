// File access that may block, on threads of its own: those of storage that hangs keep nobody else's
// from their work, as they would in the few threads that Node.js has.
//
//   new FileTasks(threadsMax)
//   .open(path, flags, mode)   a descriptor
//   .close(fd)  .flush(fd)     fdatasync; 0
//   .size(fd)                  bytes
//   .read(fd, bytes, position) bytes read, fewer than asked for only at the end of the file
//   .write(fd, bytes, length, position, flush)  0; with `flush` it is durable
//   .allocate(fd, size)        reserves room from the start on; 0
//   .punch(fd, offset, length) gives room back, zeroes remain; 0
//   .dataBytes(fd, offset, length)  how much of it is no hole
//   .rename(from, to)  .unlink(path)  0
//   .flushDirectory(path)      0; its entries are durable
//   .flushFileSystem(path)     0; all that lies on the same file system as this file is durable
//   .freeBytes(path)           room on the file system for who is not root
//
// All return promises of a number; a negative one is that of an error (-errno). Memory handed over
// must stay as it is until the promise settles.
#pragma once

#include <napi.h>

#include "task_threads.h"

namespace aoe {

class FileTasks final : public Napi::ObjectWrap<FileTasks> {
 public:
  static void Register(Napi::Env env, Napi::Object exports);

  explicit FileTasks(const Napi::CallbackInfo& info);

 private:
  Napi::Value Open(const Napi::CallbackInfo& info);
  Napi::Value Close(const Napi::CallbackInfo& info);
  Napi::Value Flush(const Napi::CallbackInfo& info);
  Napi::Value Size(const Napi::CallbackInfo& info);
  Napi::Value Read(const Napi::CallbackInfo& info);
  Napi::Value Write(const Napi::CallbackInfo& info);
  Napi::Value Allocate(const Napi::CallbackInfo& info);
  Napi::Value Punch(const Napi::CallbackInfo& info);
  Napi::Value DataBytes(const Napi::CallbackInfo& info);
  Napi::Value Rename(const Napi::CallbackInfo& info);
  Napi::Value Unlink(const Napi::CallbackInfo& info);
  Napi::Value FlushDirectory(const Napi::CallbackInfo& info);
  Napi::Value FlushFileSystem(const Napi::CallbackInfo& info);
  Napi::Value FreeBytes(const Napi::CallbackInfo& info);

  TaskThreads threads_;
};

}  // namespace aoe
