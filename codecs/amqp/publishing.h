// Publishes on their way in: gathered over one round of input, of all channels in the order in
// which they came, into one Broker::publish(); confirmed or returned in that order once the journal
// has them; and how much may wait. One of the seams of Session, on its thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "codecs/amqp/assembly.h"
#include "codecs/amqp/content.h"
#include "codecs/amqp/link.h"
#include "mapping/amqp.h"

namespace polylog::amqp {

class Channel;

class Publishing {
 public:
  explicit Publishing(Link& link) : link_(link) {}

  /// `input` is what contents of this round point into.
  void beginRound(const SharedBytes& input);
  /// The input goes; flush() has been called.
  void endRound() { input_ = {}; }
  /// Gathers a publish. The content's views must stay good until flush(), but for kept ones.
  Outcome publish(const std::shared_ptr<Channel>& channel, const Content& content,
                  std::string& keptBody);
  /// Hands what was gathered to the broker. Called at the end of a round, and before any method
  /// whose effect must come after the publishes in front of it.
  void flush();
  /// Too much waits for the journal: no more should be read.
  bool saturated() const {
    return waitingRecords_ > kMaxWaitingRecords || waitingBytes_ > kMaxWaitingBytes;
  }
  /// Something is gathered, or on its way to the journal.
  bool outstanding() const { return used_ > 0 || !waiting_.empty(); }
  /// Names may mean something else from here on.
  void forgetRoute() { route_.reset(); }

 private:
  /// What goes back to a mandatory publisher if nobody takes it.
  struct Returnable {
    std::string exchange;
    std::string routingKey;
    std::string properties;
    SharedBytes body;
  };
  /// A publish that somebody wants to hear of.
  struct Entry {
    std::shared_ptr<Channel> channel;
    uint64_t confirm = 0;  ///< its number on a channel in confirm mode; 0 = not to be confirmed
    size_t index = 0;      ///< of its result
    std::unique_ptr<Returnable> returnable;
  };
  /// What went to the broker together.
  struct Batch {
    std::vector<Entry> entries;
    std::vector<PublishResult> results;
    size_t records = 0;
    size_t bytes = 0;
    bool done = false;
  };
  /// What flush() still has to point into the text that grew meanwhile.
  struct OriginalAt {
    size_t from = 0;
    size_t size = 0;
  };
  struct Parsed {
    BasicProperties properties;
    Table headers;
    std::optional<int64_t> expirationMs;
  };

  std::expected<Parsed, Fault> parse(const Content& content) const;
  Outcome check(Parsed& parsed) const;
  Outcome findRoute(const Content& content, const Table& headers);
  Outcome address(BytesView exchange, BytesView routingKey, Publish& out);
  void addHeaders(const Content& content, Parsed& parsed, Publish& out);
  void setExpected(const std::shared_ptr<Channel>& channel, const Content& content,
                   const SharedBytes& body);
  Publish& next();
  std::string& scratch();
  void reset();
  void complete(Batch& batch, std::vector<PublishResult> results);
  void answerFinished();
  void answer(const Entry& entry, const PublishResult& result);
  void giveBack(const Entry& entry);

  Link& link_;
  SharedBytes input_;

  // The last route found in this round.
  RouteRef route_;
  bool routeIsForAll_ = false;  ///< not by one publish's headers
  std::string routeExchange_;
  std::string routeKey_;

  // Gathered, not yet with the broker. The memory is kept from round to round.
  std::vector<Publish> gathered_;
  size_t used_ = 0;  ///< of gathered_
  std::vector<OriginalAt> originalAt_;
  std::string originals_;
  std::vector<Entry> entries_;
  size_t gatheredBytes_ = 0;
  std::deque<std::string> scratch_;  ///< texts that the mapping had to make; addresses stay put
  size_t scratchUsed_ = 0;
  std::deque<mapping::AmqpProperties> mapped_;
  mapping::TextArena arena_;
  std::vector<SharedBytes> bodies_;

  std::deque<std::shared_ptr<Batch>> waiting_;  ///< with the broker, in order
  size_t waitingRecords_ = 0;
  size_t waitingBytes_ = 0;
};

}  // namespace polylog::amqp
