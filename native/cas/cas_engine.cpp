#include "cas_engine.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "../system_error.h"
#include "block_hash.h"
#include "record.h"

namespace aoe::cas {

namespace {

// Reads of a disk profit from depth.
constexpr uint32_t kThreadsMax = 8;

uint8_t* Bytes(const Napi::Value& value) {
  auto array = value.As<Napi::Uint8Array>();
  return array.Data();
}

uint32_t Number(const Napi::Value& value) { return value.As<Napi::Number>().Uint32Value(); }

const uint8_t* HashAt(const Napi::Value& words, const Napi::Value& index) {
  return reinterpret_cast<const uint8_t*>(words.As<Napi::Uint32Array>().Data() + Number(index));
}

using HashValue = std::array<uint8_t, kHashSize>;

HashValue CopyHash(const uint8_t* hash) {
  HashValue copy;
  std::memcpy(copy.data(), hash, kHashSize);
  return copy;
}

}  // namespace

void CasEngine::Register(Napi::Env env, Napi::Object exports) {
  exports.Set("CasEngine",
              DefineClass(env, "CasEngine",
                          {
                              InstanceMethod<&CasEngine::Attach>("attach"),
                              InstanceMethod<&CasEngine::Detach>("detach"),
                              InstanceMethod<&CasEngine::Condemn>("condemn"),
                              InstanceMethod<&CasEngine::IngestNow>("ingestNow"),
                              InstanceMethod<&CasEngine::Ingest>("ingest"),
                              InstanceMethod<&CasEngine::Written>("written"),
                              InstanceMethod<&CasEngine::ReadNow>("readNow"),
                              InstanceMethod<&CasEngine::Read>("read"),
                              InstanceMethod<&CasEngine::LocateNow>("locateNow"),
                              InstanceMethod<&CasEngine::Locate>("locate"),
                              InstanceMethod<&CasEngine::Distrust>("distrust"),
                              InstanceMethod<&CasEngine::Check>("check"),
                              InstanceMethod<&CasEngine::Verify>("verify"),
                              InstanceMethod<&CasEngine::Seal>("seal"),
                              InstanceMethod<&CasEngine::AddToIndex>("addToIndex"),
                              InstanceMethod<&CasEngine::Move>("move"),
                              InstanceMethod<&CasEngine::MarkBegin>("markBegin"),
                              InstanceMethod<&CasEngine::Mark>("mark"),
                              InstanceMethod<&CasEngine::Marked>("marked"),
                              InstanceMethod<&CasEngine::MarkEnd>("markEnd"),
                              InstanceMethod<&CasEngine::DropDetached>("dropDetached"),
                              InstanceMethod<&CasEngine::Hash>("hash"),
                              InstanceMethod<&CasEngine::HashNodes>("hashNodes"),
                              InstanceMethod<&CasEngine::IndexCount>("indexCount"),
                              InstanceMethod<&CasEngine::IndexBytes>("indexBytes"),
                          }));
}

CasEngine::CasEngine(const Napi::CallbackInfo& info)
    : ObjectWrap(info),
      engine_(static_cast<size_t>(info[0].As<Napi::Number>().Int64Value())),
      memories_(Napi::Persistent(Napi::Object::New(info.Env()))),
      threads_(info.This().As<Napi::Object>(), kThreadsMax) {}

void CasEngine::Attach(const Napi::CallbackInfo& info) {
  const uint32_t segment = Number(info[0]);
  if (info[1].IsNumber()) {
    UniqueFd fd(fcntl(info[1].As<Napi::Number>(), F_DUPFD_CLOEXEC, 0));
    if (!fd.is_open()) {
      ThrowSystemError(info.Env(), {errno, "fcntl"});
      return;
    }
    engine_.sources().Attach(segment, std::make_shared<SegmentSource>(std::move(fd)));
    return;
  }
  auto memory = info[1].As<Napi::Uint8Array>();
  memories_.Set(segment, memory);
  engine_.sources().Attach(segment,
                           std::make_shared<SegmentSource>(memory.Data(), memory.ByteLength()));
}

void CasEngine::Detach(const Napi::CallbackInfo& info) { engine_.sources().Detach(Number(info[0])); }

void CasEngine::Condemn(const Napi::CallbackInfo& info) {
  engine_.sources().Condemn(Number(info[0]));
}

Napi::Value CasEngine::IngestNow(const Napi::CallbackInfo& info) {
  const auto* rows = reinterpret_cast<const IngestRow*>(info[1].As<Napi::Int32Array>().Data());
  const size_t length = engine_.Ingest(Bytes(info[0]), rows, Number(info[2]), Bytes(info[3]),
                                       info[4].As<Napi::Boolean>(), false);
  return Napi::Number::New(info.Env(), static_cast<double>(length));
}

Napi::Value CasEngine::Ingest(const Napi::CallbackInfo& info) {
  const auto* rows = reinterpret_cast<const IngestRow*>(info[1].As<Napi::Int32Array>().Data());
  const uint8_t* slab = Bytes(info[0]);
  const size_t count = Number(info[2]);
  uint8_t* record = Bytes(info[3]);
  const bool compress = info[4].As<Napi::Boolean>();
  return threads_.Run({info.This(), info[0], info[1], info[3]}, [=, this] {
    return static_cast<double>(engine_.Ingest(slab, rows, count, record, compress, true));
  });
}

void CasEngine::Written(const Napi::CallbackInfo& info) {
  engine_.known().Written(Bytes(info[0]));
}

Napi::Value CasEngine::ReadNow(const Napi::CallbackInfo& info) {
  const FrameLocation location{Number(info[0]), Number(info[1])};
  const auto kind = static_cast<EntryKind>(Number(info[2]));
  const ReadResult result = engine_.Read(location, kind, HashAt(info[3], info[4]),
                                         Bytes(info[5]) + Number(info[6]), false);
  return Napi::Number::New(info.Env(), static_cast<int32_t>(result));
}

Napi::Value CasEngine::Read(const Napi::CallbackInfo& info) {
  const FrameLocation location{Number(info[0]), Number(info[1])};
  const auto kind = static_cast<EntryKind>(Number(info[2]));
  const HashValue hash = CopyHash(HashAt(info[3], info[4]));
  uint8_t* raw = Bytes(info[5]) + Number(info[6]);
  return threads_.Run({info.This(), info[5]}, [=, this] {
    return static_cast<double>(engine_.Read(location, kind, hash.data(), raw, true));
  });
}

namespace {

// Returns 1 when it is known, 0 when it is not, -1 when it would block.
double LocateInto(KnownFrames* known, const uint8_t* hash, uint32_t* out, bool may_block) {
  FrameLocation location{};
  const ReadResult result = known->Locate(hash, &location, may_block);
  if (result == ReadResult::kWouldBlock) return -1;
  if (result != ReadResult::kOk) return 0;
  out[0] = location.segment;
  out[1] = location.place;
  return 1;
}

}  // namespace

Napi::Value CasEngine::LocateNow(const Napi::CallbackInfo& info) {
  uint32_t* out = info[2].As<Napi::Uint32Array>().Data();
  const uint8_t* hash = HashAt(info[0], info[1]);
  return Napi::Number::New(info.Env(), LocateInto(&engine_.known(), hash, out, false));
}

Napi::Value CasEngine::Locate(const Napi::CallbackInfo& info) {
  const HashValue hash = CopyHash(HashAt(info[0], info[1]));
  uint32_t* out = info[2].As<Napi::Uint32Array>().Data();
  return threads_.Run({info.This(), info[2]}, [=, this] {
    return LocateInto(&engine_.known(), hash.data(), out, true);
  });
}

void CasEngine::Distrust(const Napi::CallbackInfo& info) {
  engine_.known().Distrust({Number(info[0]), Number(info[1])});
}

namespace {

// Returns -1 when it is valid, -2 when it is torn, else the index of the first damaged frame.
double Verdict(const uint8_t* record, size_t available, bool frames) {
  size_t damaged = 0;
  switch (CheckRecord(record, available, frames, &damaged)) {
    case RecordState::kValid:
      return -1;
    case RecordState::kTorn:
      return -2;
    case RecordState::kDamagedFrame:
      return static_cast<double>(damaged);
  }
  return -2;
}

}  // namespace

Napi::Value CasEngine::Check(const Napi::CallbackInfo& info) {
  auto record = info[0].As<Napi::Uint8Array>();
  const bool frames = info[1].As<Napi::Boolean>();
  return Napi::Number::New(info.Env(), Verdict(record.Data(), record.ByteLength(), frames));
}

Napi::Value CasEngine::Verify(const Napi::CallbackInfo& info) {
  auto record = info[0].As<Napi::Uint8Array>();
  const uint8_t* bytes = record.Data();
  const size_t available = record.ByteLength();
  return threads_.Run({info.This(), record}, [=] { return Verdict(bytes, available, true); });
}

void CasEngine::Seal(const Napi::CallbackInfo& info) { SealRecord(Bytes(info[0])); }

void CasEngine::AddToIndex(const Napi::CallbackInfo& info) {
  engine_.known().Add(Bytes(info[0]), info[1].ToBoolean());
}

Napi::Value CasEngine::Move(const Napi::CallbackInfo& info) {
  auto source = info[0].As<Napi::Uint8Array>();
  const uint8_t* bytes = source.Data();
  const size_t available = source.ByteLength();
  const uint8_t* chosen = Bytes(info[1]);
  uint8_t* target = Bytes(info[2]);
  return threads_.Run({info.This(), source, info[1], info[2]}, [=, this] {
    return static_cast<double>(engine_.Move(bytes, available, chosen, target));
  });
}

Napi::Value CasEngine::MarkBegin(const Napi::CallbackInfo& info) {
  return threads_.Run({info.This()}, [this] {
    engine_.known().MarkBegin();
    return 0.0;
  });
}

Napi::Value CasEngine::Mark(const Napi::CallbackInfo& info) {
  const auto* hashes = reinterpret_cast<const uint8_t*>(info[0].As<Napi::Uint32Array>().Data());
  const size_t count = Number(info[1]);
  static constexpr HashValue kZero{};
  double fresh = 0;
  for (size_t i = 0; i < count; i++) {
    const uint8_t* hash = hashes + i * kHashSize;
    if (std::memcmp(hash, kZero.data(), kHashSize) != 0 && engine_.known().Mark(hash)) fresh++;
  }
  return Napi::Number::New(info.Env(), fresh);
}

Napi::Value CasEngine::Marked(const Napi::CallbackInfo& info) {
  const uint8_t* record = Bytes(info[0]);
  uint8_t* flags = Bytes(info[1]);
  return threads_.Run({info.This(), info[0], info[1]}, [=, this] {
    return static_cast<double>(engine_.ChooseLive(record, flags));
  });
}

void CasEngine::MarkEnd(const Napi::CallbackInfo&) { engine_.known().MarkEnd(); }

Napi::Value CasEngine::DropDetached(const Napi::CallbackInfo& info) {
  return threads_.Run({info.This()}, [this] {
    engine_.known().DropDetached();
    return 0.0;
  });
}

Napi::Value CasEngine::Hash(const Napi::CallbackInfo& info) {
  const auto domain = static_cast<HashDomain>(Number(info[0]));
  const uint8_t* bytes = Bytes(info[1]);
  const size_t count = Number(info[2]);
  uint8_t* out = Bytes(info[3]);
  for (size_t i = 0; i < count; i++) {
    const uint8_t* inputs[] = {bytes + i * kBlockSize};
    HashMany(domain, inputs, 1, out + i * kHashSize);
  }
  return info.Env().Undefined();
}

Napi::Value CasEngine::HashNodes(const Napi::CallbackInfo& info) {
  const auto nodes = info[0].As<Napi::Array>();
  uint8_t* out = Bytes(info[1]);
  std::vector<const uint8_t*> inputs(nodes.Length());
  for (uint32_t i = 0; i < inputs.size(); i++) {
    const Napi::Value words = nodes[i];
    inputs[i] = reinterpret_cast<const uint8_t*>(words.As<Napi::Uint32Array>().Data());
  }
  return threads_.Run({info[0], info[1]}, [inputs = std::move(inputs), out] {
    cas::HashNodes(inputs.data(), inputs.size(), out);
    return 0.0;
  });
}

Napi::Value CasEngine::IndexCount(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(engine_.known().index_count()));
}

Napi::Value CasEngine::IndexBytes(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(engine_.known().index_bytes()));
}

}  // namespace aoe::cas
