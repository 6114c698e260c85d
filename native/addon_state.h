// What belongs to one environment (main thread or worker) of the addon.
#pragma once

#include <napi.h>

#include <algorithm>
#include <vector>

namespace aoe {

// Something that a spinning thread must not overlook.
class ReadySource {
 public:
  virtual ~ReadySource() = default;
  virtual bool Ready() const = 0;
};

struct AddonState {
  std::vector<const ReadySource*> sources;

  static AddonState& Of(Napi::Env env) { return *env.GetInstanceData<AddonState>(); }

  bool AnyReady() const {
    return std::any_of(sources.begin(), sources.end(), [](auto* source) { return source->Ready(); });
  }
  void Remove(const ReadySource* source) { std::erase(sources, source); }
};

}  // namespace aoe
