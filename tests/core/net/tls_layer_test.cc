// TLS against OpenSSL's client, over strings: every step in the test's hand.
#include "core/net/tls_layer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/pem.h>

#include <cstdio>
#include <cstdlib>

#include "core/base/metrics.h"
#include "tests/core/net/layer_fixture.h"
#include "tests/support/certificates.h"
#include "tests/support/tls_client.h"

namespace polylog {
namespace {

using test::CertificateFiles;
using test::TestAuthority;
using test::TlsClientOptions;
using test::TlsStrings;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;
using Clients = TlsOptions::Clients;

class TlsLayerTest : public LayerTest {
 protected:
  TlsLayerTest() {
    options_.certificates = {server_.certificate};
    options_.keys = {server_.key};
  }
  void load() {
    auto loaded = TlsContext::load(options_);
    ASSERT_TRUE(loaded) << loaded.error().text;
    context_ = *loaded;
  }
  void connect(const TlsClientOptions& options) {
    if (context_ == nullptr) load();
    if (layer_ != nullptr) end();
    lower_.closed = false;
    unread_.clear();
    lower_.takeSent();
    put(tlsSessions(context_, limits_, probed()));
    client_ = std::make_unique<TlsStrings>(options);
  }
  /// Both sides say what they have to say, until neither has anything more.
  bool handshake() {
    bool done = false;
    for (int i = 0; i < 6; ++i) {
      done = client_->handshake();
      receive(client_->take());
      dispatcher_.runAll();
      client_->give(lower_.takeSent());
    }
    return done;
  }
  bool established() { return probe_.transport != nullptr; }
  void fromClient(BytesView bytes) {
    client_->send(bytes);
    receive(client_->take());
  }
  std::string atClient() {
    endRound();
    client_->give(lower_.takeSent());
    return client_->read();
  }

  TestAuthority authority_;
  CertificateFiles server_ =
      authority_.issue("server", "broker", "DNS:broker.example,IP:127.0.0.1");
  CertificateFiles device_ =
      authority_.issue("device", "device-17", "DNS:d17.example,URI:urn:dev:17,email:d@example.org");
  TlsOptions options_;
  LayerLimits limits_;
  std::shared_ptr<TlsContext> context_;
  std::unique_ptr<TlsStrings> client_;
};

TEST_F(TlsLayerTest, CarriesOctetsBothWays) {
  connect({.ca = authority_.file()});
  EXPECT_FALSE(established()) << "before the handshake";
  ASSERT_TRUE(handshake());
  ASSERT_TRUE(established());
  EXPECT_FALSE(probe_.transport->identity());
  fromClient("hello");
  EXPECT_EQ(probe_.received, "hello");
  probe_.transport->send("wor");
  probe_.transport->send("ld");
  EXPECT_EQ(probe_.transport->unsent(), 5U);
  EXPECT_EQ(atClient(), "world");
}

TEST_F(TlsLayerTest, WhatIsSentInARoundSharesRecords) {
  connect({});
  ASSERT_TRUE(handshake());
  for (int i = 0; i < 1000; ++i) probe_.transport->send("0123456789");
  dispatcher_.runAll();
  // A record has some 22 octets of its own; a thousand of them would show.
  EXPECT_LT(lower_.sent.size(), 10'000U + 8 * 30);
  EXPECT_EQ(atClient().size(), 10'000U);
}

TEST_F(TlsLayerTest, TakesOctetsOneByOne) {
  connect({});
  client_->handshake();
  receiveSlowly(client_->take());
  dispatcher_.runAll();
  client_->give(lower_.takeSent());
  ASSERT_TRUE(client_->handshake());
  client_->send("abc");
  client_->send("def");
  receiveSlowly(client_->take());
  EXPECT_EQ(probe_.received, "abcdef");
}

TEST_F(TlsLayerTest, KeepsLargePacketsUntilTheyAreWhole) {
  connect({});
  ASSERT_TRUE(handshake());
  probe_.transport->handshakeDone();
  constexpr size_t kPacket = 300'000;
  probe_.wanted = kPacket;
  probe_.take = [](BytesView input) { return input.size() < kPacket ? 0 : kPacket; };
  fromClient(std::string(kPacket, 'p') + "x");
  EXPECT_EQ(probe_.received.size(), kPacket);
}

TEST_F(TlsLayerTest, HoldsToTheHandshakesLimitsUntilTheSessionsIsDone) {
  connect({});
  ASSERT_TRUE(handshake());
  probe_.take = [](BytesView) { return size_t{0}; };
  fromClient(std::string(4000, 'x'));
  EXPECT_FALSE(lower_.closed);
  fromClient(std::string(96, 'x'));
  EXPECT_TRUE(lower_.closed);
  EXPECT_THAT(lower_.reason, HasSubstr("over the limit of 4096"));
}

TEST_F(TlsLayerTest, APausedSessionGetsTheRestWhenItReadsAgain) {
  connect({});
  ASSERT_TRUE(handshake());
  probe_.transport->handshakeDone();
  probe_.take = [&](BytesView) {
    probe_.transport->pauseReading(true);
    return size_t{3};
  };
  fromClient("abcdef");
  fromClient(std::string(50'000, 'g'));
  EXPECT_EQ(probe_.received, "abc");
  probe_.take = [](BytesView input) { return input.size(); };
  probe_.transport->pauseReading(false);
  EXPECT_EQ(probe_.received, "abc") << "not from inside the call";
  endRound();
  EXPECT_EQ(probe_.received.size(), 6 + 50'000U);
}

TEST_F(TlsLayerTest, TheGoodByesAreSaid) {
  connect({});
  ASSERT_TRUE(handshake());
  probe_.transport->send("last words");
  probe_.transport->close("done");
  probe_.transport->send("not these");
  EXPECT_TRUE(lower_.closed);
  client_->give(lower_.takeSent());
  EXPECT_EQ(client_->read(), "last words");
  EXPECT_EQ(SSL_get_shutdown(client_->ssl()), SSL_RECEIVED_SHUTDOWN);
  end();
  EXPECT_EQ(probe_.closed, "done");
}

TEST_F(TlsLayerTest, ThePeersGoodByeClosesAfterWhatCameBefore) {
  connect({});
  ASSERT_TRUE(handshake());
  client_->send("bye");
  SSL_shutdown(client_->ssl());
  receive(client_->take());
  EXPECT_EQ(probe_.received, "bye");
  EXPECT_EQ(lower_.reason, "closed by the peer");
}

TEST_F(TlsLayerTest, ThePeersGoodByeWaitsForAPausedSession) {
  connect({});
  ASSERT_TRUE(handshake());
  probe_.take = [&](BytesView) {
    probe_.transport->pauseReading(true);
    return size_t{1};
  };
  client_->send("bye");
  SSL_shutdown(client_->ssl());
  receive(client_->take());
  EXPECT_FALSE(lower_.closed);
  probe_.take = [](BytesView input) { return input.size(); };
  probe_.transport->pauseReading(false);
  endRound();
  EXPECT_EQ(probe_.received, "bye");
  EXPECT_EQ(lower_.reason, "closed by the peer");
}

TEST_F(TlsLayerTest, GarbageIsNoHandshake) {
  Metric& failures = counter("polylog_tls_handshake_failures_total", "TLS handshakes that failed");
  for (const char* garbage : {"GET / HTTP/1.1\r\n\r\n", "\x10\x0f\x00\x04MQTT\x04\x02",
                              "\x16\x03\x01"
                              "garbage that is long enough"}) {
    connect({});
    auto before = failures.value();
    receive(garbage);
    receive(std::string(2000, '\xff'));
    EXPECT_TRUE(lower_.closed) << garbage;
    EXPECT_THAT(lower_.reason, StartsWith("TLS handshake failed"));
    EXPECT_FALSE(established());
    EXPECT_EQ(failures.value(), before + 1);
  }
}

TEST_F(TlsLayerTest, TheBrokersStopEndsAHandshake) {
  connect({});
  layer_->onShutdown();
  EXPECT_TRUE(lower_.closed);
  end();
  EXPECT_EQ(probe_.closed, "") << "there was no session";
}

TEST_F(TlsLayerTest, DamagedRecordsCloseTheConnection) {
  connect({});
  ASSERT_TRUE(handshake());
  client_->send("fine");
  client_->send("damaged");
  std::string records = client_->take();
  records.back() = static_cast<char>(records.back() ^ 1);
  receive(records);
  EXPECT_THAT(lower_.reason, StartsWith("TLS failed"));
  EXPECT_THAT(probe_.received, testing::AnyOf("", "fine"));
}

TEST_F(TlsLayerTest, TheCertificateTellsWhoTheClientIs) {
  options_.clients = Clients::kRequired;
  options_.ca = authority_.file();
  connect({.certificate = device_.certificate, .key = device_.key});
  ASSERT_TRUE(handshake());
  ASSERT_TRUE(established());
  PeerIdentityRef who = probe_.transport->identity();
  ASSERT_TRUE(who);
  EXPECT_EQ(who->commonName, "device-17");
  EXPECT_EQ(who->subject, "CN=device-17,O=Example");
  EXPECT_THAT(who->alternativeNames,
              ElementsAre("DNS:d17.example", "URI:urn:dev:17", "email:d@example.org"));
  EXPECT_EQ(who->fingerprint.size(), 64U);
}

TEST_F(TlsLayerTest, TheCertificateNamesTheUserAsConfigured) {
  using From = TlsOptions::UserFrom;
  options_.clients = Clients::kRequired;
  options_.ca = authority_.file();
  const std::pair<From, const char*> kinds[] = {
      {From::kNothing, ""},
      {From::kCommonName, "device-17"},
      {From::kDistinguishedName, "CN=device-17,O=Example"},
      {From::kDns, "d17.example"},
      {From::kEmail, "d@example.org"},
      {From::kUri, "urn:dev:17"}};
  for (const auto& [from, user] : kinds) {
    options_.userFrom = from;
    load();
    connect({.certificate = device_.certificate, .key = device_.key});
    ASSERT_TRUE(handshake());
    ASSERT_TRUE(established());
    EXPECT_EQ(probe_.transport->identity()->user, user);
  }
  // Who shows a certificate without such a name is nobody, and doesn't get in as that.
  CertificateFiles nameless = authority_.issue("nameless", "device-18", "");
  connect({.certificate = nameless.certificate, .key = nameless.key});
  handshake();
  EXPECT_FALSE(established());
  EXPECT_THAT(lower_.reason, HasSubstr("tls.user_from"));
}

TEST_F(TlsLayerTest, APreSharedKeyIsForItsIdentity) {
  options_ = TlsOptions{};
  options_.pskFile = authority_.write("psk", "# two\ndevice:17:" + std::string(32, 'a') + "\n" +
                                                 "device-18:" + std::string(64, 'B') + "\r\n");
  const std::string key(16, '\xaa'), other(32, '\xbb');
  for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    connect({.pskIdentity = "device:17", .psk = key, .maxVersion = version});
    ASSERT_TRUE(handshake()) << version;
    ASSERT_TRUE(established());
    EXPECT_EQ(probe_.transport->identity()->user, "device:17");
    connect({.pskIdentity = "device-18", .psk = other, .maxVersion = version});
    ASSERT_TRUE(handshake()) << version;
    EXPECT_EQ(probe_.transport->identity()->user, "device-18");
    // Another's key, and an identity that nobody has.
    for (const char* identity : {"device-18", "device-19", ""}) {
      connect({.pskIdentity = identity, .psk = key, .maxVersion = version});
      handshake();
      EXPECT_FALSE(established()) << identity;
    }
    connect({.certificate = device_.certificate, .key = device_.key, .maxVersion = version});
    handshake();
    EXPECT_FALSE(established()) << "without a key";
  }
}

TEST_F(TlsLayerTest, AnOptionalCertificateMayBeMissingButNotWrong) {
  options_.clients = Clients::kOptional;
  options_.ca = authority_.file();
  connect({});
  ASSERT_TRUE(handshake());
  EXPECT_TRUE(established());
  EXPECT_FALSE(probe_.transport->identity());
  TestAuthority strangers("Strangers");
  CertificateFiles stranger = strangers.issue("stranger", "device-17", "");
  connect({.certificate = stranger.certificate, .key = stranger.key});
  handshake();
  EXPECT_FALSE(established());
  EXPECT_THAT(lower_.reason, HasSubstr("the client's certificate: "));
}

TEST_F(TlsLayerTest, ARequiredCertificateIsRequired) {
  options_.clients = Clients::kRequired;
  options_.ca = authority_.file();
  for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    connect({.maxVersion = version});
    handshake();
    EXPECT_FALSE(established());
    EXPECT_THAT(lower_.reason, HasSubstr("did not return a certificate"));
  }
}

TEST_F(TlsLayerTest, RevokedCertificatesAreRefused) {
  CertificateFiles revoked = authority_.issue("revoked", "lost", "");
  options_.clients = Clients::kRequired;
  options_.ca = authority_.file();
  options_.crl = authority_.revoke("ca.crl", {revoked.certificate});
  connect({.certificate = revoked.certificate, .key = revoked.key});
  handshake();
  EXPECT_FALSE(established());
  EXPECT_THAT(lower_.reason, HasSubstr("revoked"));
  connect({.certificate = device_.certificate, .key = device_.key});
  EXPECT_TRUE(handshake());
  EXPECT_TRUE(established());
}

TEST_F(TlsLayerTest, ATicketRemembersTheClientAndAReloadForgetsTheTicket) {
  options_.clients = Clients::kRequired;
  options_.ca = authority_.file();
  for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    TlsClientOptions who{
        .certificate = device_.certificate, .key = device_.key, .maxVersion = version};
    connect(who);
    ASSERT_TRUE(handshake());
    client_->read();               // the ticket
    SSL_shutdown(client_->ssl());  // or OpenSSL's client takes the session for a bad one
    SSL_SESSION* session = SSL_get1_session(client_->ssl());
    who.resume = session;
    connect(who);
    ASSERT_TRUE(handshake());
    EXPECT_EQ(SSL_session_reused(client_->ssl()), 1);
    ASSERT_TRUE(probe_.transport->identity());
    EXPECT_EQ(probe_.transport->identity()->commonName, "device-17");
    SSL_shutdown(client_->ssl());
    // From now on it is revoked.
    ASSERT_TRUE(context_->reload());
    connect(who);
    ASSERT_TRUE(handshake());
    EXPECT_EQ(SSL_session_reused(client_->ssl()), 0);
    SSL_SESSION_free(session);
  }
}

TEST_F(TlsLayerTest, TheNameThatIsAskedForChoosesTheCertificate) {
  CertificateFiles other = authority_.issue("other", "other", "DNS:*.other.example");
  options_.certificates.push_back(other.certificate);
  options_.keys.push_back(other.key);
  for (auto [asked, shown] : {std::pair{"", "broker"},
                              {"broker.example", "broker"},
                              {"mqtt.other.example", "other"},
                              {"unknown.example", "broker"}}) {
    connect({.ca = authority_.file(), .serverName = asked});
    ASSERT_TRUE(handshake()) << asked;
    EXPECT_EQ(client_->serverName(), shown) << asked;
  }
}

TEST_F(TlsLayerTest, OldVersionsAreRefused) {
  options_.minVersion = TlsOptions::Version::k13;
  connect({.maxVersion = TLS1_2_VERSION});
  EXPECT_FALSE(handshake());
  EXPECT_TRUE(lower_.closed);
  connect({});
  EXPECT_TRUE(handshake());
}

TEST_F(TlsLayerTest, NobodyRenegotiates) {
  connect({.maxVersion = TLS1_2_VERSION});
  ASSERT_TRUE(handshake());
  SSL_renegotiate(client_->ssl());
  client_->handshake();
  receive(client_->take());
  dispatcher_.runAll();
  EXPECT_FALSE(lower_.closed);
  EXPECT_GT(lower_.sent.size(), 0U) << "it isn't told";
  client_->give(lower_.takeSent());
  EXPECT_FALSE(client_->handshake());
}

TEST_F(TlsLayerTest, WhoAsksToRenegotiateAndReadsNothingIsCut) {
  connect({.maxVersion = TLS1_2_VERSION});
  ASSERT_TRUE(handshake());
  lower_.isCongested = true;
  SSL_renegotiate(client_->ssl());
  client_->handshake();
  receive(client_->take());
  EXPECT_TRUE(lower_.closed);
  EXPECT_THAT(lower_.reason, HasSubstr("doesn't read"));
}

TEST_F(TlsLayerTest, KeyUpdatesAreAnsweredUnlessThePeerReadsNothing) {
  connect({});
  ASSERT_TRUE(handshake());
  client_->read();
  auto update = [&] {
    SSL_key_update(client_->ssl(), SSL_KEY_UPDATE_REQUESTED);
    fromClient("x");
  };
  for (int i = 0; i < 10; ++i) update();
  EXPECT_EQ(probe_.received.size(), 10U);
  probe_.transport->send("still in step");
  EXPECT_EQ(atClient(), "still in step");
  lower_.isCongested = true;
  for (int i = 0; i < 10 && !lower_.closed; ++i) update();
  EXPECT_TRUE(lower_.closed);
  EXPECT_THAT(lower_.reason, HasSubstr("doesn't read"));
}

TEST_F(TlsLayerTest, AReloadLeavesOldConnectionsAlone) {
  connect({.ca = authority_.file()});
  ASSERT_TRUE(handshake());
  EXPECT_EQ(client_->serverName(), "broker");
  CertificateFiles renewed = authority_.issue("server", "renewed", "DNS:broker.example");
  ASSERT_TRUE(context_->reload());
  fromClient("still here");
  EXPECT_EQ(probe_.received, "still here");
  connect({.ca = authority_.file()});
  ASSERT_TRUE(handshake());
  EXPECT_EQ(client_->serverName(), "renewed");
  // What can't be used changes nothing.
  authority_.write("server.crt", "no certificate");
  auto failed = context_->reload();
  ASSERT_FALSE(failed);
  EXPECT_THAT(failed.error().text, HasSubstr(server_.certificate));
  connect({.ca = authority_.file()});
  ASSERT_TRUE(handshake());
  EXPECT_EQ(client_->serverName(), "renewed");
}

TEST_F(TlsLayerTest, ErrorsNameKeyFileAndRemedy) {
  auto refused = [](TlsOptions options) {
    auto loaded = TlsContext::load(std::move(options));
    return loaded ? std::string("taken") : loaded.error().text;
  };
  auto changed = [this](auto change) {
    TlsOptions options = options_;
    change(options);
    return options;
  };
  std::string nonsense = authority_.write("nonsense", "nonsense\n");
  EXPECT_EQ(refused(options_), "taken");
  EXPECT_THAT(refused({}), HasSubstr("`tls.certificate` is missing"));
  EXPECT_THAT(refused(changed([](auto& o) { o.certificates = {"/nowhere/a.crt"}; })),
              HasSubstr("`tls.certificate: /nowhere/a.crt`: can't be read: No such file"));
  EXPECT_THAT(refused(changed([&](auto& o) { o.certificates = {nonsense}; })),
              HasSubstr("holds no usable certificate"));
  EXPECT_THAT(refused(changed([&](auto& o) { o.keys = {nonsense}; })),
              HasSubstr("`tls.key: " + nonsense));
  EXPECT_THAT(refused(changed([&](auto& o) { o.keys = {device_.key}; })),
              HasSubstr("is no private key of the certificate"));
  EXPECT_THAT(refused(changed([&](auto& o) { o.keys.push_back(device_.key); })),
              HasSubstr("2 keys for 1 certificates"));
  EXPECT_THAT(refused(changed([](auto& o) { o.clients = Clients::kRequired; })),
              HasSubstr("`tls.ca` is missing"));
  EXPECT_THAT(refused(changed([&](auto& o) { o.ca = authority_.file(); })),
              HasSubstr("has no effect while"));
  EXPECT_THAT(refused(changed([&](auto& o) { o.crl = nonsense; })), HasSubstr("`tls.crl: "));
  auto asking = [&](TlsOptions& o) {
    o.clients = Clients::kOptional;
    o.ca = authority_.file();
  };
  EXPECT_THAT(refused(changed([&](auto& o) { asking(o), o.ca = nonsense; })),
              HasSubstr("`tls.ca: " + nonsense));
  EXPECT_THAT(refused(changed([&](auto& o) { asking(o), o.crl = nonsense; })),
              HasSubstr("is no list of revoked certificates"));
  EXPECT_THAT(refused(changed([](auto& o) { o.ciphers = "NONE-SUCH"; })),
              HasSubstr("`tls.ciphers: NONE-SUCH`"));
  EXPECT_THAT(refused(changed([](auto& o) { o.ciphersuites = "TLS_NONE"; })),
              HasSubstr("`tls.ciphersuites: TLS_NONE`"));
}

TEST_F(TlsLayerTest, AKeyWithAPassphraseIsRefusedWithoutAsking) {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  std::string path = authority_.directory() + "/locked.key";
  FILE* file = std::fopen(path.c_str(), "w");
  PEM_write_PrivateKey(file, key, EVP_aes_128_cbc(), nullptr, 0, nullptr,
                       const_cast<char*>("secret"));
  std::fclose(file);
  EVP_PKEY_free(key);
  options_.keys = {path};
  auto loaded = TlsContext::load(options_);
  ASSERT_FALSE(loaded);
  EXPECT_THAT(loaded.error().text, HasSubstr("asks for a passphrase"));
}

TEST_F(TlsLayerTest, AKeyMayStandInItsCertificatesFile) {
  std::string both = authority_.directory() + "/both.pem";
  ASSERT_EQ(std::system(("cat " + server_.certificate + " " + server_.key + " > " + both).c_str()),
            0);
  options_.certificates = {both};
  options_.keys.clear();
  connect({.ca = authority_.file()});
  EXPECT_TRUE(handshake());
}

}  // namespace
}  // namespace polylog
