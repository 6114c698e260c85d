// Module initialisation: one AddonState an environment, and the exported classes and functions.
#include <napi.h>

#include "addon_state.h"
#include "cas/cas_engine.h"
#include "file_ring.h"
#include "file_tasks.h"
#include "files.h"
#include "image_lock.h"
#include "interface_watch.h"
#include "packet_socket.h"
#include "privileges.h"
#include "service_manager.h"

namespace {

Napi::Object Initialise(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new aoe::AddonState());
  aoe::PacketSocket::Register(env, exports);
  aoe::FileRing::Register(env, exports);
  aoe::FileTasks::Register(env, exports);
  aoe::InterfaceWatch::Register(env, exports);
  aoe::RegisterFiles(env, exports);
  aoe::cas::CasEngine::Register(env, exports);
  aoe::RegisterImageLock(env, exports);
  aoe::RegisterPrivileges(env, exports);
  aoe::RegisterServiceManager(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(aoe_native, Initialise)
