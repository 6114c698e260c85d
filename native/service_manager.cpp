#include "service_manager.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <string>

#include "system_error.h"
#include "unique_fd.h"

namespace aoe {

namespace {

void NotifyServiceManager(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const std::string path = info[0].As<Napi::String>();
  const std::string state = info[1].As<Napi::String>();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return ThrowSystemError(env, {ENAMETOOLONG, "sendto"});
  }
  std::copy(path.begin(), path.end(), address.sun_path);
  if (path.starts_with('@')) address.sun_path[0] = '\0';
  const UniqueFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd.is_open()) return ThrowSystemError(env, {errno, "socket"});
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  if (sendto(fd.get(), state.data(), state.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
             reinterpret_cast<sockaddr*>(&address), size) < 0) {
    ThrowSystemError(env, {errno, "sendto"});
  }
}

}  // namespace

void RegisterServiceManager(Napi::Env env, Napi::Object exports) {
  exports.Set("notifyServiceManager", Napi::Function::New<NotifyServiceManager>(env));
}

}  // namespace aoe
