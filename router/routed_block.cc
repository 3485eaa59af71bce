#include "router/routed_block.h"

#include <list>
#include <utility>

#include "core/model/record_batch.h"
#include "router/retained_store.h"

namespace polylog::router {
namespace {

/// What the views in a block's records point into.
struct BlockBytes {
  SharedBytes body;
  std::shared_ptr<const std::string> topic;
  std::list<std::string> texts;  ///< addresses that a rule made, mostly none; they must not move
};

const Header* addressHeader(const Record& record) {
  for (const Header& header : record.headers) {
    if (header.name == kAddressHeader && header.value) return &header;
  }
  return nullptr;
}

/// Whether the broker routed it when it was published. Its address can be found in it then.
bool routedAtPublish(Protocol origin) {
  return origin != Protocol::kKafka && origin != Protocol::kRocketMq;
}

Address addressOf(const Record& record, const BlockSource& source, const RouterOptions& options,
                  BlockBytes& bytes) {
  if (routedAtPublish(source.origin)) {
    if (const Header* header = addressHeader(record)) return splitAddressText(*header->value);
    return {*source.topic, record.key};
  }
  if (!options.addressOf) return {*source.topic, record.key};
  std::string scratch;
  Address address = options.addressOf(*source.topic, record.key, scratch);
  auto inside = [](BytesView part, BytesView whole) {
    return part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size();
  };
  // A rule's answer may point into the scratch, which goes: then it is kept as one text.
  bool made = inside(address.topic, scratch) || (address.key && inside(*address.key, scratch));
  if (!made) return address;
  std::string& text = bytes.texts.emplace_back();
  appendAddressText(address, text);
  return splitAddressText(text);
}

}  // namespace

Result<RoutedBlockRef> openBlock(const SharedBytes& batch, BlockSource source,
                                 const RouterOptions& options) {
  Result<DecodedBatch> decoded = decodeRecordBatch(batch, options.maxDecodedBytes);
  if (!decoded) return std::unexpected(std::move(decoded.error()));
  auto bytes = std::make_shared<BlockBytes>();
  bytes->body = std::move(decoded->body);
  bytes->topic = source.topic;
  auto block = std::make_shared<RoutedBlock>();
  block->bytes = bytes->body.size() + decoded->records.size() * sizeof(RoutedRecord);
  block->source = std::move(source);
  if (decoded->header.offsetCount() != static_cast<int32_t>(decoded->records.size())) {
    block->offsetDeltas = std::move(decoded->offsetDeltas);
  }
  block->records.resize(decoded->records.size());
  SharedBytes owner(bytes, bytes->body.view());
  for (size_t i = 0; i < block->records.size(); ++i) {
    RoutedRecord& routed = block->records[i];
    routed.record = std::move(decoded->records[i]);
    routed.address = addressOf(routed.record, block->source, options, *bytes);
    routed.owner = owner;
    routed.origin = block->source.origin;
  }
  return RoutedBlockRef(std::move(block));
}

size_t sizeOf(const Record& record) {
  size_t size = (record.key ? record.key->size() : 0) + (record.value ? record.value->size() : 0);
  for (const Header& header : record.headers) {
    size += header.name.size() + (header.value ? header.value->size() : 0);
  }
  return size;
}

}  // namespace polylog::router
