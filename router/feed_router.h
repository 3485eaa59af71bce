// Brings what Kafka clients produced to subscribers, after its commit. The store's feed hands over
// batches that a subscription could match; worker 0 opens each once, delivers to live subscribers,
// and links inboxes to it in an entry that also says how far routing has come (kMeta
// "routed_position"), so that an inbox gets each record once, whatever crash lies between.
//
// The queue between the writer thread and worker 0 is bounded: when it is full it is thrown away
// and the journal is read again from the routed position.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
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

  void onCommitted(std::vector<storage::CommittedBatch> batches);
  void schedule();
  void run();
  void catchUp();
  /// False: it could not be stored; routing stops here for a while.
  bool route(const storage::CommittedBatch& batch);
  void deliverLive(const storage::CommittedBatch& batch, const RoutedBlockRef& block);
  Result<> link(const storage::CommittedBatch& batch, const RoutedBlockRef& block);
  Result<> addQueueTargets(Links& links, const MatchResult& match,
                           const storage::CommittedBatch& batch, uint32_t index,
                           const std::string& topic);
  Result<> addTargets(Links& links, const MatchResult& match, Position position, uint32_t index,
                      const std::string& topic);
  void fallBack(Position to, const Error& error);
  void goOn();
  void advanced(Position to);
  void journalPosition();
  void onTick();

  Core& core_;

  // Worker 0's.
  Position routedTo_;  ///< below it, inboxes have what is theirs
  Position liveTo_;    ///< below it, live subscribers have been given theirs
  Position journaledTo_;
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
