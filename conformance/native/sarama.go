// sarama, as services in Go use it.
//
//	sarama exact  HOST:PORT TOPIC CODEC   records with keys, headers and timestamps, there and back
//	sarama group  HOST:PORT TOPIC GROUP   two members of a group, one of which leaves; offsets, committed
//	sarama admin  HOST:PORT TOPIC         topics, configurations, records and groups by ClusterAdmin
//	sarama fetch  HOST:PORT TOPIC         idempotent producing, offsets by time, aborted records unseen
//
// The last line is `ok`; anything else, and a status other than 0, is a failure.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/Shopify/sarama"
)

const records = 500

var codecs = map[string]sarama.CompressionCodec{
	"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy,
	"lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
}

func fail(form string, values ...interface{}) {
	fmt.Printf(form+"\n", values...)
	os.Exit(1)
}

func check(err error, what string) {
	if err != nil {
		fail("%s: %v", what, err)
	}
}

func configured() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.V2_2_0_0
	config.Producer.Return.Successes = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	return config
}

func message(topic string, number int) *sarama.ProducerMessage {
	return &sarama.ProducerMessage{
		Topic: topic, Key: sarama.StringEncoder(fmt.Sprint("key ", number)),
		Value:     sarama.ByteEncoder(append([]byte{0, 0xff}, fmt.Sprint(number)...)),
		Headers:   []sarama.RecordHeader{{Key: []byte("h"), Value: []byte(fmt.Sprint("header ", number))}},
		Timestamp: time.Unix(1600000000, 0).Add(time.Duration(number) * time.Millisecond),
	}
}

func produce(broker, topic string, config *sarama.Config) {
	producer, err := sarama.NewSyncProducer([]string{broker}, config)
	check(err, "producer")
	var batch []*sarama.ProducerMessage
	for number := 0; number < records; number++ {
		batch = append(batch, message(topic, number))
	}
	check(producer.SendMessages(batch), "send")
	for number, sent := range batch {
		if sent.Offset != int64(number) {
			fail("record %d has offset %d", number, sent.Offset)
		}
	}
	check(producer.Close(), "close")
}

// next is a partition's next record, within half a minute.
func next(from sarama.PartitionConsumer, what string) *sarama.ConsumerMessage {
	select {
	case found := <-from.Messages():
		return found
	case err := <-from.Errors():
		check(err, what)
	case <-time.After(30 * time.Second):
		fail("%s: no record within 30 s", what)
	}
	return nil
}

func exact(broker, topic, codec string) {
	config := configured()
	config.Producer.Compression = codecs[codec]
	produce(broker, topic, config)

	consumer, err := sarama.NewConsumer([]string{broker}, config)
	check(err, "consumer")
	partition, err := consumer.ConsumePartition(topic, 0, sarama.OffsetOldest)
	check(err, "partition")
	for number := 0; number < records; number++ {
		found, sent := next(partition, codec), message(topic, number)
		key, _ := sent.Key.Encode()
		value, _ := sent.Value.Encode()
		if found.Offset != int64(number) || !bytes.Equal(found.Key, key) || !bytes.Equal(found.Value, value) ||
			!found.Timestamp.Equal(sent.Timestamp) || len(found.Headers) != 1 ||
			!bytes.Equal(found.Headers[0].Value, sent.Headers[0].Value) {
			fail("record %d came back as %+v", number, found)
		}
	}
	check(consumer.Close(), "close")
}

// member tells what it was given, and stays as long as its context.
type member struct {
	given chan int
	seen  chan *sarama.ConsumerMessage
}

func (m member) Setup(session sarama.ConsumerGroupSession) error {
	count := 0
	for _, partitions := range session.Claims() {
		count += len(partitions)
	}
	m.given <- count
	return nil
}

func (m member) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (m member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for found := range claim.Messages() {
		session.MarkMessage(found, "")
		m.seen <- found
	}
	return nil
}

type running struct {
	member
	stop func()
}

func join(broker, topic, group string) running {
	config := configured()
	config.Consumer.Group.Session.Timeout = 6 * time.Second
	config.Consumer.Group.Heartbeat.Interval = 300 * time.Millisecond
	config.Consumer.Offsets.Retention = time.Hour // else OffsetCommit 1, which Kafka 4 has no more
	client, err := sarama.NewConsumerGroup([]string{broker}, group, config)
	check(err, "group")
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Add(1)
	m := member{make(chan int, 100), make(chan *sarama.ConsumerMessage, 10*records)}
	go func() {
		defer done.Done()
		for ctx.Err() == nil { // each rebalance ends a session
			check(client.Consume(ctx, []string{topic}, m), "consume")
		}
	}()
	return running{m, func() { cancel(); done.Wait(); check(client.Close(), "leave") }}
}

// until reads assignments until one is as said.
func until(given chan int, count int, what string) {
	deadline := time.After(30 * time.Second)
	for {
		select {
		case now := <-given:
			if now == count {
				return
			}
		case <-deadline:
			fail("%s: never had %d partitions", what, count)
		}
	}
}

func group(broker, topic, name string) {
	config := configured()
	config.Producer.Partitioner = sarama.NewRoundRobinPartitioner
	producer, err := sarama.NewSyncProducer([]string{broker}, config)
	check(err, "producer")
	send := func() {
		for number := 0; number < records; number++ {
			_, _, err := producer.SendMessage(message(topic, number))
			check(err, "send")
		}
	}
	first := join(broker, topic, name)
	until(first.given, 4, "alone")
	send()
	seen := map[string]int{}
	collect := func(total int, what string, from ...running) {
		deadline := time.After(30 * time.Second)
		for total > 0 {
			var found *sarama.ConsumerMessage
			select {
			case found = <-from[0].seen:
			case found = <-from[len(from)-1].seen:
			case <-deadline:
				fail("%s: %d records are missing", what, total)
			}
			total--
			seen[fmt.Sprint(found.Partition, ":", found.Offset)]++
		}
	}
	collect(records, "alone", first)
	second := join(broker, topic, name)
	until(second.given, 2, "the second")
	until(first.given, 2, "the first of two")
	send()
	collect(records, "both", first, second)
	first.stop()
	until(second.given, 4, "the second alone")
	second.stop()
	third := join(broker, topic, name) // from what the others committed
	until(third.given, 4, "the third")
	send()
	collect(records, "from the committed offsets", third)
	third.stop()
	for place, times := range seen {
		if times != 1 {
			fail("%s was read %d times", place, times)
		}
	}
	if len(seen) != 3*records {
		fail("%d records", len(seen))
	}
}

func admin(broker, topic string) {
	config := configured()
	admin, err := sarama.NewClusterAdmin([]string{broker}, config)
	check(err, "admin")
	retention := "3600000"
	check(admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 2, ReplicationFactor: 1,
		ConfigEntries: map[string]*string{"retention.ms": &retention}}, false), "create")
	if err := admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 2, ReplicationFactor: 1}, false); err == nil {
		fail("created twice")
	}
	check(admin.CreatePartitions(topic, 3, nil, false), "partitions")
	longer := "7200000"
	check(admin.AlterConfig(sarama.TopicResource, topic, map[string]*string{"retention.ms": &longer}, false), "alter")
	produce(broker, topic, configured())
	check(admin.DeleteRecords(topic, map[int32]int64{0: 100}), "delete records")
	client, err := sarama.NewClient([]string{broker}, configured())
	check(err, "client")
	controller, err := client.Controller()
	check(err, "controller")
	// ClusterAdmin asks in version 0, which Kafka 4 has no more.
	described, err := controller.DescribeConfigs(&sarama.DescribeConfigsRequest{Version: 1, IncludeSynonyms: true,
		Resources: []*sarama.ConfigResource{{Type: sarama.TopicResource, Name: topic, ConfigNames: []string{"retention.ms"}}}})
	check(err, "describe")
	if entry := described.Resources[0].Configs[0]; entry.Value != longer || entry.Source != sarama.SourceTopic ||
		len(entry.Synonyms) != 2 {
		fail("described as %+v", entry)
	}
	oldest, err := client.GetOffset(topic, 0, sarama.OffsetOldest)
	check(err, "oldest")
	if oldest != 100 {
		fail("the oldest is %d", oldest)
	}
	partitions, err := client.Partitions(topic)
	check(err, "partitions")
	if len(partitions) != 3 {
		fail("partitions %v", partitions)
	}
	member := join(broker, topic, "watched")
	until(member.given, 3, "member")
	groups, err := admin.ListConsumerGroups()
	check(err, "groups")
	if groups["watched"] != "consumer" {
		fail("groups %v", groups)
	}
	members, err := admin.DescribeConsumerGroups([]string{"watched"})
	check(err, "describe group")
	if len(members) != 1 || members[0].State != "Stable" || len(members[0].Members) != 1 {
		fail("group %+v", members)
	}
	for number := 0; number < records-100; number++ {
		<-member.seen
	}
	member.stop()
	offsets, err := admin.ListConsumerGroupOffsets("watched", map[string][]int32{topic: {0}})
	check(err, "offsets")
	if block := offsets.GetBlock(topic, 0); block == nil || block.Offset != records {
		fail("committed %+v", block)
	}
	check(admin.DeleteTopic(topic), "delete")
	check(admin.Close(), "close")
}

func fetch(broker, topic string) {
	config := configured()
	config.Producer.Idempotent = true
	config.Net.MaxOpenRequests = 1
	produce(broker, topic, config)
	client, err := sarama.NewClient([]string{broker}, config)
	check(err, "client")
	at, err := client.GetOffset(topic, 0, 1600000000000+123)
	check(err, "by time")
	if at != 123 {
		fail("by time: %d", at)
	}
	newest, err := client.GetOffset(topic, 0, sarama.OffsetNewest)
	check(err, "newest")
	consumer, err := sarama.NewConsumerFromClient(client)
	check(err, "consumer")
	partition, err := consumer.ConsumePartition(topic, 0, newest-1)
	check(err, "partition")
	if found := next(partition, "the last"); found.Offset != records-1 {
		fail("the last is %d", found.Offset)
	}
	if mark := partition.HighWaterMarkOffset(); mark != records {
		fail("high water mark %d", mark)
	}
	check(partition.Close(), "close")
	if _, err := consumer.ConsumePartition(topic, 0, newest+1); err != sarama.ErrOffsetOutOfRange {
		fail("beyond the end: %v", err)
	}
}

func main() {
	arguments := append(os.Args[1:], "", "", "")
	switch arguments[0] {
	case "exact":
		exact(arguments[1], arguments[2], arguments[3])
	case "group":
		group(arguments[1], arguments[2], arguments[3])
	case "admin":
		admin(arguments[1], arguments[2])
	case "fetch":
		fetch(arguments[1], arguments[2])
	default:
		fail("usage: sarama exact|group|admin|fetch HOST:PORT TOPIC [CODEC|GROUP]")
	}
	fmt.Println("ok")
}
