#include "server/serve.h"

#include <fmt/format.h>
#include <malloc.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <memory>
#include <system_error>
#include <thread>

#include "codecs/amqp/registration.h"
#include "codecs/kafka/client_telemetry.h"
#include "codecs/kafka/registration.h"
#include "codecs/mqtt/registration.h"
#include "codecs/mqtt/trace.h"
#include "core/base/metrics.h"
#include "core/event/event_dispatcher.h"
#include "core/net/address.h"
#include "core/net/listener.h"
#include "core/password/password_file.h"
#include "mapping/amqp.h"
#include "mapping/kafka_consumer.h"
#include "router/router.h"
#include "server/admin.h"
#include "server/bridges.h"
#include "server/listener_config.h"
#include "server/listeners.h"
#include "server/sys_topics.h"
#include "storage/log_store.h"

namespace polylog::server {
namespace {

/// How long clients may take to end what they began, and how long all of the end may take.
constexpr int64_t kDrainMicros = 20'000'000;
constexpr std::chrono::seconds kShutDownLimit{30};
/// At most, to check passwords: they come in storms, and compete with the workers for cores.
constexpr unsigned kLoginThreads = 4;

/// As many descriptors as the machine grants: one a connection and one a segment.
void raiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

/// Fewer arenas keep memory from lying idle in each; blocks the size of a produce request come from
/// the heap instead of fresh, zeroed pages each time.
void tuneMemory(size_t workers) {
  mallopt(M_ARENA_MAX, static_cast<int>(workers) + 1);
  mallopt(M_MMAP_THRESHOLD, 4 << 20);
  mallopt(M_TRIM_THRESHOLD, 16 << 20);
}

storage::LogStoreOptions storeOptions(const Config& config) {
  storage::LogStoreOptions options;
  options.segmentBytes = static_cast<uint64_t>(config.segmentBytes);
  options.cacheBytes = static_cast<uint64_t>(config.cacheBytes);
  options.checkpointBytes = static_cast<uint64_t>(config.checkpointBytes);
  options.retentionCheckMillis = config.retentionCheckMs;
  options.diskHighMark = static_cast<uint64_t>(config.diskHighMarkBytes);
  options.diskLowMark = static_cast<uint64_t>(config.diskLowMarkBytes);
  return options;
}

/// Whether others than the store say who there is.
bool usersElsewhere(const Config& config) {
  auto names = [&](const ListenerConfig& listener) {
    const TlsOptions tls = configFor(listener, config).tls;
    return tls.userFrom != TlsOptions::UserFrom::kNothing || !tls.pskFile.empty();
  };
  return config.jwt.any() || !config.httpHook.url.empty() || !config.passwordFile.empty() ||
         std::ranges::any_of(config.listeners, names);
}

router::RouterOptions routerOptions(const Config& config) {
  using Options = router::RouterOptions;
  Options options;
  options.autoCreateTopics = config.autoCreateTopics;
  options.defaultPartitions = static_cast<int32_t>(config.topicPartitions);
  options.defaultsMqtt = Options::retention(config.topicRetentionMs, config.topicRetentionBytes);
  options.defaultsKafka = Options::retention(config.kafkaRetentionMs, config.kafkaRetentionBytes);
  options.defaultsMqtt.flush = options.defaultsKafka.flush = config.flush;
  options.maxTopicsByDevices = static_cast<size_t>(config.maxTopicsByDevices);
  options.maxMessageBytes = config.maxMessageBytes;
  // max_message_bytes is of what is compressed, and that may be many times as much.
  options.maxDecodedBytes =
      std::max<size_t>(options.maxDecodedBytes, static_cast<size_t>(config.maxMessageBytes) * 4);
  options.inboxRecords = config.mqttInboxRecords;
  options.inboxBytes = config.mqttInboxBytes;
  options.inboxMillis = config.mqttInboxAgeSeconds * 1000;
  options.inboxDropsNew = config.mqttInboxDropsNew;
  options.maxInflight = config.mqttMaxInflight;
  for (const BridgeConfig& bridge : config.bridges) {
    options.maxInflight = std::max(options.maxInflight, bridge.maxInflight);
  }
  options.liveBytes = static_cast<size_t>(config.mqttLiveBytes);
  options.sparkplug = config.mqttSparkplug;
  options.slowSubscriberMillis = config.mqttSlowSubscriberMs;
  options.maxDelayed = static_cast<size_t>(config.mqttMaxDelayed);
  options.sharedDispatch = config.mqttSharedDispatch;
  options.initialRebalanceMillis = config.kafkaInitialRebalanceMs;
  options.groupDefaults.sessionTimeoutMs = static_cast<int32_t>(config.kafkaConsumerSessionMs);
  options.groupDefaults.heartbeatIntervalMs = static_cast<int32_t>(config.kafkaConsumerHeartbeatMs);
  options.groupDefaults.shareSessionTimeoutMs = static_cast<int32_t>(config.kafkaShareSessionMs);
  options.groupDefaults.shareHeartbeatIntervalMs =
      static_cast<int32_t>(config.kafkaShareHeartbeatMs);
  options.groupDefaults.shareLockMs = static_cast<int32_t>(config.kafkaShareLockMs);
  options.groupDefaults.shareDeliveries = static_cast<int32_t>(config.kafkaShareDeliveries);
  options.groupDefaults.shareRecordLocks = static_cast<int32_t>(config.kafkaShareRecordLocks);
  options.consumerFormat = mapping::consumerFormat();
  options.offsetsRetentionMillis = config.kafkaOffsetsRetentionMinutes * 60'000;
  options.transactionalIdExpiryMillis = config.kafkaTransactionIdExpirationMs;
  options.access.denyByDefault = config.authDenyByDefault;
  options.access.superusers = config.authSuperusers;
  options.access.usersElsewhere = usersElsewhere(config);
  options.access.threads = std::clamp(std::thread::hardware_concurrency(), 1U, kLoginThreads);
  options.flapping = {config.flappingConnects, config.flappingWindowSeconds * 1000,
                      config.flappingBanSeconds * 1000};
  options.filterOf = mapping::filterFromBindingKey;
  options.routingKeyOf = mapping::appendRoutingKey;
  if (!config.rules.empty()) {
    options.ruleTopics = config.rules.topics();
    options.addressOf = [rules = config.rules](BytesView topic, const std::optional<BytesView>& key,
                                               std::string& scratch) {
      return rules.addressOf(topic, key, scratch);
    };
  }
  return options;
}

/// What Kafka clients are told of the rest of the configuration.
kafka::BrokerFacts kafkaFacts(const Config& config) {
  const router::RouterOptions options = routerOptions(config);
  kafka::BrokerFacts facts;
  std::error_code ignored;
  facts.dataDirectory = std::filesystem::absolute(config.dataDirectory, ignored).string();
  facts.defaultPartitions = options.defaultPartitions;
  facts.offsetsRetentionMinutes = config.kafkaOffsetsRetentionMinutes;
  facts.initialRebalanceDelayMs = options.initialRebalanceMillis;
  facts.maxGroupMembers = static_cast<int32_t>(options.maxGroupMembers);
  facts.disk = [directory = facts.dataDirectory] {
    std::error_code error;
    std::filesystem::space_info space = std::filesystem::space(directory, error);
    if (error) return kafka::DiskSpace{};
    return kafka::DiskSpace{static_cast<int64_t>(space.capacity),
                            static_cast<int64_t>(space.available)};
  };
  return facts;
}

/// `config`: with the listener's own values. `anonymous`: its clients need not log in.
SessionFactory sessionFactory(std::string_view protocol, const Config& config, bool anonymous,
                              router::Router& broker, mqtt::Tracer& tracer,
                              std::shared_ptr<kafka::ClientTelemetry> telemetry) {
  if (protocol == "mqtt") {
    mqtt::MqttOptions options;
    options.receiveMaximum = static_cast<uint16_t>(config.mqttReceiveMaximum);
    options.maxInflight = static_cast<uint16_t>(config.mqttMaxInflight);
    options.outboundTopicAliases = static_cast<uint16_t>(config.mqttOutboundTopicAliases);
    options.maxKeepAliveSeconds = static_cast<uint16_t>(config.mqttMaxKeepAlive);
    options.maxQos = static_cast<uint8_t>(config.mqttMaxQos);
    options.retainAvailable = config.mqttRetainAvailable;
    options.rules = config.rules;
    options.mountPoint = config.mqttMountPoint;
    options.responseInformation = config.mqttResponseInformation;
    options.checkPayloadFormat = config.mqttCheckPayloadFormat;
    options.redirect = config.mqttRedirect;
    options.redirectForGood = config.mqttRedirectForGood;
    options.publishesPerSecond = config.mqttPublishRate;
    options.bytesPerSecond = config.mqttByteRate;
    options.rewrites = config.mqttRewrites;
    options.automatic = config.mqttAutomatic;
    options.authenticator = &broker.authenticator();
    options.allowAnonymous = anonymous;
    options.clients = &broker.clients();
    options.tracer = &tracer;
    return mqtt::makeSessionFactory(broker, options);
  }
  if (protocol == "amqp") {
    amqp::AmqpOptions options;
    options.version = kVersion;
    options.authenticator = &broker.authenticator();
    options.allowAnonymous = anonymous;
    options.clients = &broker.clients();
    options.rules = config.rules;
    return amqp::makeSessionFactory(broker, options);
  }
  kafka::KafkaOptions options;
  options.advertised = config.kafkaAdvertised;
  options.facts = kafkaFacts(config);
  options.maxFetchSessions = static_cast<size_t>(config.kafkaMaxFetchSessions);
  options.maxShareSessions = static_cast<size_t>(config.kafkaMaxShareSessions);
  options.maxTransactionTimeoutMs = static_cast<int32_t>(config.kafkaTransactionMaxTimeoutMs);
  options.authenticator = &broker.authenticator();
  options.allowAnonymous = anonymous;
  options.clients = &broker.clients();
  options.reauthenticationMs = config.kafkaReauthenticationMs;
  options.access = &broker.access();
  options.quotas = &broker.quotas();
  options.clientMetrics = &broker.clientMetrics();
  options.dynamicDefaults = &broker.dynamicDefaults();
  options.telemetry = std::move(telemetry);
  options.shareGroups = &broker.shareGroups();
  return kafka::makeSessionFactory(broker, options);
}

/// Everything that runs, in the order in which it is made; taken down in reverse by shutDown().
class Server {
 public:
  explicit Server(const Config& config) : config_(config) {}

  Result<> start();
  /// The `ready ...` line's text, one item a listener.
  std::string addresses() const;
  /// Reads the files of TLS and the password file again; what can't be used leaves things as they
  /// were.
  void reload();
  void shutDown();

 private:
  Result<> openStore();
  Result<> openJudges(router::RouterOptions::AccessOptions& options);
  Result<> openListeners();
  Result<> openBridges();
  void startThreads();

  const Config& config_;
  std::atomic<bool> ready_{false};
  std::unique_ptr<mqtt::Tracer> tracer_;
  std::shared_ptr<password::PasswordFile> passwords_;
  std::vector<std::unique_ptr<EventDispatcher>> workers_;
  std::unique_ptr<storage::LogStore> store_;
  std::unique_ptr<router::Router> router_;
  std::shared_ptr<kafka::ClientTelemetry> telemetry_;
  std::unique_ptr<MetricsSource> telemetryMetrics_;
  std::unique_ptr<SysTopics> sysTopics_;
  std::unique_ptr<Bridges> bridges_;
  std::vector<std::thread> threads_;
  std::vector<OpenListener> listeners_;
  std::vector<std::unique_ptr<AdminServer>> admins_;
  std::vector<std::string> addresses_;
};

Result<> Server::openStore() {
  auto directory = storage::openDirectory(config_.dataDirectory);
  if (!directory) return std::unexpected(directory.error());
  auto store = storage::openLogStore(*directory, storeOptions(config_), systemClock(),
                                     systemRandom(), [](const Error& error) {
                                       logError("the disk failed, stopping: " + error.text);
                                       std::_Exit(1);
                                     });
  if (!store && store.error().kind == ErrorKind::kBusy) {
    return fail(
        ErrorKind::kBusy,
        fmt::format("the data directory {} is in use by another broker: stop it, or give this "
                    "one its own with --data ({})",
                    config_.dataDirectory, store.error().text));
  }
  if (!store) {
    return fail(store.error().kind, fmt::format("can't open the data directory {}: {}",
                                                config_.dataDirectory, store.error().text));
  }
  store_ = std::move(*store);
  const storage::RecoveryReport& found = store_->recovery();
  logInfo(fmt::format(
      "polylog {}, data directory {}: journal of {} octets, {} damaged entries, {} octets "
      "of a torn end dropped",
      kVersion, config_.dataDirectory, found.durableEnd.value(), found.damagedEntries,
      found.truncatedBytes));
  return {};
}

Result<> Server::start() {
  size_t count = config_.workers > 0 ? static_cast<size_t>(config_.workers)
                                     : std::max(1U, std::thread::hardware_concurrency());
  tuneMemory(count);
  if (auto opened = openStore(); !opened) return opened;
  std::vector<Dispatcher*> dispatchers;
  for (size_t i = 0; i < count; ++i) {
    workers_.push_back(std::make_unique<EventDispatcher>());
    dispatchers.push_back(workers_.back().get());
  }
  static Clock& clock = systemClock();
  router::RouterOptions options = routerOptions(config_);
  if (auto opened = openJudges(options.access); !opened) return opened;
  auto router = router::makeRouter(*store_, dispatchers, clock, systemRandom(), std::move(options));
  if (!router) return std::unexpected(router.error());
  router_ = std::move(*router);
  telemetry_ =
      std::make_shared<kafka::ClientTelemetry>(router_->clientMetrics(), clock, systemRandom());
  telemetryMetrics_ = std::make_unique<MetricsSource>(
      [telemetry = telemetry_](std::string& out) { telemetry->print(out); });
  startThreads();
  router_->start();
  if (config_.authRequired && !router_->access().anyUsers() && !usersElsewhere(config_)) {
    logWarning(
        "auth.required is set and there are no users: nobody can log in until one is made "
        "on this machine with `polylog user create NAME`");
  }
  tracer_ = std::make_unique<mqtt::Tracer>(config_.dataDirectory + "/traces", clock);
  if (auto opened = openBridges(); !opened) return opened;
  if (auto opened = openListeners(); !opened) return opened;
  // After what it looks up has been registered.
  if (config_.mqttSysIntervalSeconds > 0) {
    sysTopics_ =
        std::make_unique<SysTopics>(*router_, *workers_[0], config_.mqttSysIntervalSeconds);
    workers_[0]->post([sys = sysTopics_.get()] { sys->start(); });
  }
  return {};
}

/// Who else than the store says who there is.
Result<> Server::openJudges(router::RouterOptions::AccessOptions& options) {
  if (config_.jwt.any()) {
    auto opened = jwt::Verifier::open(config_.jwt);
    if (!opened) return std::unexpected(opened.error());
    options.tokens = *std::move(opened);
  }
  if (!config_.passwordFile.empty()) {
    auto opened = password::PasswordFile::open(config_.passwordFile);
    if (!opened) return std::unexpected(opened.error());
    passwords_ = *std::move(opened);
    options.passwords = passwords_;
  }
  if (!config_.httpHook.url.empty()) {
    auto opened = openHttpHook(config_.httpHook);
    if (!opened) return std::unexpected(opened.error());
    options.hook = *std::move(opened);
  }
  return {};
}

void Server::startThreads() {
  for (auto& worker : workers_) threads_.emplace_back([loop = worker.get()] { loop->run(); });
}

Result<> Server::openBridges() {
  mqtt::MqttOptions options;
  options.receiveMaximum = static_cast<uint16_t>(config_.mqttReceiveMaximum);
  options.outboundTopicAliases = static_cast<uint16_t>(config_.mqttOutboundTopicAliases);
  options.rules = config_.rules;
  options.tracer = tracer_.get();
  std::vector<EventDispatcher*> workers;
  for (auto& worker : workers_) workers.push_back(worker.get());
  auto opened = Bridges::open(config_, *router_, router_->bridges(), std::move(options), workers);
  if (!opened) return std::unexpected(opened.error());
  bridges_ = *std::move(opened);
  return {};
}

Result<> Server::openListeners() {
  std::vector<EventDispatcher*> workers;
  for (auto& worker : workers_) workers.push_back(worker.get());
  auto budget = std::make_shared<ConnectionBudget>();
  budget->maxOpen = static_cast<size_t>(config_.maxConnections);
  budget->maxInHandshake = static_cast<size_t>(config_.maxHandshakes);
  for (const ListenerConfig& wanted : config_.listeners) {
    if (wanted.protocol == "admin") {
      AdminSecurity security{&router_->authenticator(),
                             &router_->access(),
                             config_.allowAnonymous,
                             &router_->clients(),
                             tracer_.get(),
                             bridges_.get(),
                             &router_->quotas(),
                             &router_->clientMetrics(),
                             &router_->dynamicDefaults()};
      auto admin = AdminServer::open(
          wanted.address, *workers_[0], *router_, [this] { return ready_.load(); }, security);
      if (!admin) return std::unexpected(admin.error());
      admins_.push_back(std::move(*admin));
      addresses_.push_back("admin=" + toText(admins_.back()->bound()));
      continue;
    }
    const Config own = configFor(wanted, config_);
    auto opened = openListener(
        wanted, own,
        sessionFactory(listenerKind(wanted.protocol)->protocol, own,
                       mayBeAnonymous(wanted, config_), *router_, *tracer_, telemetry_),
        workers, budget);
    if (!opened) return std::unexpected(opened.error());
    addresses_.push_back(opened->name);
    listeners_.push_back(*std::move(opened));
  }
  ready_ = true;
  return {};
}

std::string Server::addresses() const {
  return fmt::format("{}", fmt::join(addresses_, " "));
}

void Server::reload() {
  if (passwords_ != nullptr) {
    if (auto read = passwords_->reload(); !read) {
      logError(fmt::format("goes on with the users that it has: {}", read.error().text));
    } else {
      logInfo(fmt::format("auth.password_file: read again, {} users", passwords_->size()));
    }
  }
  for (OpenListener& each : listeners_) {
    if (each.tls == nullptr) continue;
    if (auto loaded = each.tls->reload(); !loaded) {
      logError(fmt::format("listener {} goes on with the certificates that it has: {}", each.name,
                           loaded.error().text));
    } else {
      logInfo(fmt::format("listener {}: certificates read again", each.name));
    }
  }
  if (bridges_) bridges_->reload();
}

void Server::shutDown() {
  ready_ = false;
  if (bridges_) bridges_->stop();
  std::vector<std::future<void>> drained;
  for (OpenListener& each : listeners_) {
    auto done = std::make_shared<std::promise<void>>();
    drained.push_back(done->get_future());
    each.listener->stop(kDrainMicros, [done] { done->set_value(); });
  }
  for (auto& each : drained) each.wait();
  for (auto& admin : admins_) admin->stop();
  if (router_ && !threads_.empty()) {
    std::promise<void> stopped;
    if (sysTopics_) workers_[0]->post([sys = sysTopics_.get()] { sys->stop(); });
    router_->stop([&] { stopped.set_value(); });
    stopped.get_future().wait();
  }
  if (store_) store_->shutDown();  // what waits for it still reads
  for (auto& worker : workers_) worker->stop();
  for (std::thread& thread : threads_) thread.join();
  listeners_.clear();
  admins_.clear();
  bridges_.reset();
  sysTopics_.reset();
  telemetryMetrics_.reset();
  telemetry_.reset();
  router_.reset();
  workers_.clear();
  store_.reset();
}

/// Ends the process if what it watches over takes too long. Nothing acknowledged is lost by that:
/// the next start recovers as from a crash.
class Watchdog {
 public:
  Watchdog() : thread_([this] { watch(); }) {}
  ~Watchdog() {
    done_.set_value();
    thread_.join();
  }
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  void watch() {
    if (done_.get_future().wait_for(kShutDownLimit) == std::future_status::ready) return;
    logWarning("stopping took over 30 s; ending without a checkpoint, the next start replays more");
    std::_Exit(0);
  }

  std::promise<void> done_;
  std::thread thread_;
};

}  // namespace

int serve(const Config& config) {
  setLogLevel(config.logLevel);
  std::signal(SIGPIPE, SIG_IGN);
  raiseDescriptorLimit();
  // Blocked before any thread starts, so that only sigwait() below takes them.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  Server server(config);
  if (auto started = server.start(); !started) {
    logError(started.error().text);
    server.shutDown();
    return 1;
  }
  // What start-up needed and nothing else will.
  malloc_trim(0);
  std::printf("ready %s\n", server.addresses().c_str());
  std::fflush(stdout);

  int signal = 0;
  while (sigwait(&signals, &signal) == 0 && signal == SIGHUP) server.reload();
  logInfo(fmt::format("stopping on {}; a second signal ends at once",
                      signal == SIGTERM ? "SIGTERM" : "SIGINT"));
  sigdelset(&signals, SIGHUP);
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
  Watchdog watchdog;
  server.shutDown();
  logInfo("stopped");
  return 0;
}

}  // namespace polylog::server
