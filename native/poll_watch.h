// Calls a JavaScript function whenever a file descriptor is readable or in error.
//
// Ownership: the owner (a wrapped JS object) holds the watch until Stop(), libuv holds its poll
// handle until the close callback; the watch is deleted when both have let go. An environment that
// ends first (worker.terminate, process.exit) closes the handle through an async cleanup hook: a
// poll handle left open aborts the process.
//
// Threading: loop thread only. The watch is level-triggered and stays armed.
#pragma once

#include <napi.h>
#include <uv.h>

namespace aoe {

class PollWatch {
 public:
  // Starts watching `fd`, which must stay open until Stop(). Returns null after throwing.
  // `callback` is called with one argument: 0, or a positive errno from the poll itself.
  static PollWatch* Start(Napi::Env env, int fd, Napi::Function callback);

  // Ends the watch; the callback is not called again and `this` must not be used again.
  void Stop();

  // Does the watch keep the process alive? It does from the start.
  void Ref(bool keep_alive);

 private:
  PollWatch(Napi::Env env, Napi::Function callback);

  void Close();
  void DeleteIfFree();
  static void OnReadable(uv_poll_t* handle, int status, int events);
  static void OnClosed(uv_handle_t* handle);
  static void OnCleanup(napi_async_cleanup_hook_handle hook, void* self);

  Napi::Env env_;
  Napi::FunctionReference callback_;
  Napi::AsyncContext context_;
  napi_async_cleanup_hook_handle cleanup_ = nullptr;
  uv_poll_t handle_{};
  bool closing_ = false;
  bool closed_ = false;
  bool released_ = false;  // by its owner
};

}  // namespace aoe
