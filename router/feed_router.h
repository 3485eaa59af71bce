// Brings what Kafka clients produced to subscribers, after its commit. The store's feed hands over
// batches that a subscription could match; worker 0 opens each once, delivers to live subscribers,
// and links inboxes to it in an entry that also says how far routing has come (kMeta
// "routed_position"), so that an inbox gets each record once, whatever crash lies between.
//
// Of a transaction, the markers of its commit come through the feed; the records that each commits
// are read from its partition and routed then, in as many entries as there are batches
// ("routed_within": how far one marker's have come). The marker's place counts as theirs.
//
// The queue between the writer thread and worker 0 is bounded: when it is full it is thrown away
// and the journal is read again from the routed position.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "core/model/topic.h"
#include "router/core.h"
#include "router/matcher.h"
#include "router/routed_block.h"

namespace polylog::router {

class FeedRouter {
 public:
  explicit FeedRouter(Core& core);
  ~FeedRouter();
  /// Reads how far routing had come, and sets the store's commit feed.
  Result<> load();
  void start(Worker& worker);
  void stop(Worker& worker);

  /// Whether a batch produced to that topic has to come back for routing. Any thread.
  bool wants(const Topic& topic) const;

 private:
  struct Links;
  /// How far the records of the transaction whose marker is at `marker` are through.
  struct Within {
    Position marker;
    Offset next;
    auto operator<=>(const Within&) const = default;
  };
  /// A batch's place in the order of routing.
  struct Step {
    Position position;             ///< its own, or the marker's
    Offset from;                   ///< within a transaction
    std::optional<Offset> behind;  ///< within a transaction: where to go on
  };

  void onCommitted(std::vector<storage::CommittedBatch> batches);
  void schedule();
  void run();
  void catchUp();
  /// False: it could not be stored; routing stops here for a while.
  bool route(const storage::CommittedBatch& batch);
  bool routeTransaction(const storage::CommittedBatch& marker, int64_t producer);
  bool routeOne(const storage::CommittedBatch& batch, const Step& step);
  void deliverLive(const RoutedBlockRef& block, Position position);
  Result<> link(const storage::CommittedBatch& batch, const RoutedBlockRef& block,
                const Step& step);
  Result<> addQueueTargets(Links& links, const MatchResult& match,
                           const storage::CommittedBatch& batch, Position position, uint32_t index,
                           const std::string& topic);
  void giveRoomBack(Links& links);
  Result<> addTargets(Links& links, const MatchResult& match, Position position, uint32_t index,
                      const std::string& topic);
  void fallBack(Position to, Within within, const Error& error);
  void goOnLater();
  void goOn();
  void advanced(Position to);
  void passed(const storage::CommittedBatch& batch, const Step& step);
  void positionMoved();
  void journalPosition();
  void onTick();

  Core& core_;

  // Worker 0's.
  Position routedTo_;  ///< below it, inboxes have what is theirs
  Within within_;      ///< and of the transaction committed there
  Position scanFrom_;  ///< the entry from which on the journal is to be read again
  Within liveTo_;      ///< below it, live subscribers have been given theirs
  Position journaledTo_;
  Within journaledWithin_;
  /// The store's, as routing went on from a place that is certain: links build on those before
  /// them, which may still fail.
  uint64_t failures_ = 0;
  int linksUnderway_ = 0;
  std::unique_ptr<Timer> positionTimer_;
  std::unique_ptr<Timer> retryTimer_;
  std::unique_ptr<Timer> tick_;
  bool positionDue_ = false;

  std::mutex mutex_;
  std::vector<storage::CommittedBatch> queue_;
  size_t queueBytes_ = 0;
  bool behind_ = true;  ///< the queue was thrown away: the journal knows better
  bool scheduled_ = false;
  bool started_ = false;
  bool waiting_ = false;  ///< for the retry timer
};

}  // namespace polylog::router
