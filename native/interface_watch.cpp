#include "interface_watch.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "system_error.h"

namespace aoe {

void InterfaceWatch::Register(Napi::Env env, Napi::Object exports) {
  exports.Set("InterfaceWatch", DefineClass(env, "InterfaceWatch",
                                            {
                                                InstanceMethod<&InterfaceWatch::Drain>("drain"),
                                                InstanceMethod<&InterfaceWatch::Close>("close"),
                                            }));
}

InterfaceWatch::InterfaceWatch(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  Napi::Env env = info.Env();
  fd_ = UniqueFd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
  if (!fd_.is_open()) {
    ThrowSystemError(env, {errno, "socket(AF_NETLINK)"});
    return;
  }
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = RTMGRP_LINK;
  if (bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) < 0) {
    ThrowSystemError(env, {errno, "bind(AF_NETLINK)"});
    return;
  }
  watch_ = PollWatch::Start(env, fd_.get(), info[0].As<Napi::Function>());
  if (watch_ != nullptr) watch_->Ref(false);
}

InterfaceWatch::~InterfaceWatch() { Stop(); }

// Reads and drops all messages; the callback calls it before it looks at the interfaces, so that
// a change after the look calls it again.
Napi::Value InterfaceWatch::Drain(const Napi::CallbackInfo& info) {
  std::array<char, 8192> message;
  while (watch_ != nullptr) {
    const ssize_t size = recv(fd_.get(), message.data(), message.size(), 0);
    // ENOBUFS says that messages were lost, which is no worse than having read them.
    if (size < 0 && errno != EINTR && errno != ENOBUFS) break;
  }
  return info.Env().Undefined();
}

void InterfaceWatch::Close(const Napi::CallbackInfo&) { Stop(); }

void InterfaceWatch::Stop() {
  if (watch_ == nullptr) return;
  watch_->Stop();
  watch_ = nullptr;
}

}  // namespace aoe
