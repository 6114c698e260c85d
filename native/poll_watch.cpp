#include "poll_watch.h"

#include "system_error.h"

namespace aoe {

PollWatch::PollWatch(Napi::Env env, Napi::Function callback)
    : env_(env), callback_(Napi::Persistent(callback)), context_(env, "aoe:poll") {
  handle_.data = this;
}

PollWatch* PollWatch::Start(Napi::Env env, int fd, Napi::Function callback) {
  uv_loop_t* loop = nullptr;
  napi_get_uv_event_loop(env, &loop);
  auto* watch = new PollWatch(env, callback);
  if (const int error = uv_poll_init(loop, &watch->handle_, fd)) {
    delete watch;
    ThrowSystemError(env, {-error, "uv_poll_init"});
    return nullptr;
  }
  uv_poll_start(&watch->handle_, UV_READABLE, OnReadable);
  napi_add_async_cleanup_hook(env, OnCleanup, watch, &watch->cleanup_);
  return watch;
}

void PollWatch::Stop() {
  released_ = true;
  Close();
  DeleteIfFree();
}

void PollWatch::Close() {
  if (closing_) return;
  closing_ = true;
  callback_.Reset();
  uv_close(reinterpret_cast<uv_handle_t*>(&handle_), OnClosed);
}

void PollWatch::DeleteIfFree() {
  if (closed_ && released_) delete this;
}

void PollWatch::Ref(bool keep_alive) {
  auto* handle = reinterpret_cast<uv_handle_t*>(&handle_);
  if (keep_alive) {
    uv_ref(handle);
  } else {
    uv_unref(handle);
  }
}

void PollWatch::OnReadable(uv_poll_t* handle, int status, int) {
  auto* watch = static_cast<PollWatch*>(handle->data);
  if (watch->closing_) return;
  Napi::Env env = watch->env_;
  Napi::HandleScope scope(env);
  const napi_value argument = Napi::Number::New(env, -status);
  // Fails when the callback threw, and when the environment ends: it runs no JavaScript then.
  napi_make_callback(env, watch->context_, env.Global(), watch->callback_.Value(), 1, &argument,
                     nullptr);
  // With C++ exceptions off nobody else looks: left pending, it would silence every later call.
  // Not by Napi::Error: an environment that ends cannot make one, which is fatal.
  napi_value exception = nullptr;
  if (env.IsExceptionPending() &&
      napi_get_and_clear_last_exception(env, &exception) == napi_ok) {
    napi_fatal_exception(env, exception);
  }
  // libuv stops a handle that polled an error, such as that of a link that went down.
  if (status < 0 && !watch->closing_) uv_poll_start(handle, UV_READABLE, OnReadable);
}

void PollWatch::OnClosed(uv_handle_t* handle) {
  auto* watch = static_cast<PollWatch*>(handle->data);
  napi_remove_async_cleanup_hook(watch->cleanup_);
  watch->closed_ = true;
  watch->DeleteIfFree();
}

void PollWatch::OnCleanup(napi_async_cleanup_hook_handle, void* self) {
  static_cast<PollWatch*>(self)->Close();
}

}  // namespace aoe
