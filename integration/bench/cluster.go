package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/integration/harness/cluster"
)

const clusterSize = 0.12 // GB of text, unless -size says

// keptIn is where a collector has its events in this comparison, what it took to get them there, and what was asked.
type keptIn struct {
	name     string
	shape    *cluster.Shape // nil: embedded
	run      besideRun      // cpu: the collector's, disk: of one copy
	servers  float64        // µs of CPU a record of all ClickHouse servers
	keepers  float64
	memory   int64 // of the largest server
	answered []dayAnswer
}

// cluster compares the embedded store with ClickHouse clusters: the same records, and the same questions.
func (b *bench) cluster() error {
	if path, _ := exec.LookPath("clickhouse-server"); path == "" {
		b.printf("## In a cluster\n\nNot measured: there is no clickhouse-server (apt-get install --no-install-recommends clickhouse-server zookeeper).\n\n")
		return nil
	}
	size, hosts := clusterSize*float64(gigabyte), dayHosts
	if b.given["size"] {
		size = b.size * float64(gigabyte)
	}
	if b.given["hosts"] {
		hosts = b.hosts
	}
	t := &besideText{bench: b, hosts: hosts, chunks: int(size/besideChunk) + 1, start: time.Now().UTC().Add(-6 * time.Hour).Truncate(time.Hour)}
	t.step = time.Duration(float64(4*time.Hour) * dayConns / (size / eventText))
	all := []*keptIn{{name: "embedded"}, {name: "1 shard × 3", shape: &cluster.Shape{Replicas: 3, Keepers: 3}}, {name: "2 shards × 2", shape: &cluster.Shape{Shards: 2, Replicas: 2, Keepers: 3}}}
	if b.load != "" {
		all = slices.DeleteFunc(all, func(k *keptIn) bool { return k.shape != nil && k.name != b.load })
	}
	for _, k := range all {
		t.records, t.bytes = 0, 0
		if err := t.keep(k); err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
	}
	b.printf("## In a cluster\n\n%s records, %s of text, %d hosts, all servers on this machine. %d senders × %d in flight by the audisp-remote protocol, on disk before it is acknowledged (`--flush sync`). CPU: until all is stored.\n\n",
		count(t.records), mib(t.bytes), hosts, dayConns, besideWindow)
	b.printf("| | records/s | CPU µs a record: collector | all ClickHouse servers | all ZooKeepers | disk a record and copy, bytes | of the text | memory of the collector | of a server |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, k := range all {
		b.printf("| %s | %s | %.1f | %.1f | %.1f | %.1f | %.1f %% | %s | %s |\n", k.name, count(k.run.rate), k.run.cpu, k.servers, k.keepers, float64(k.run.disk)/float64(t.records), 100*float64(k.run.disk)/float64(t.bytes), mib(k.run.rss), mib(k.memory))
	}
	b.printf("\nQuestions, by the collector's socket, median, and how many times the embedded store's time.\n\n| question | records | embedded |")
	for _, k := range all[1:] {
		b.printf(" %s | |", k.name)
	}
	b.printf("\n|---|---|---|%s\n", strings.Repeat("---|---|", len(all)-1))
	for i, q := range all[0].answered {
		b.printf("| %s: `%s` | %s | %s |", q.what, strings.Join(q.args, " "), count(q.records), short(q.wall))
		for _, k := range all[1:] {
			a := k.answered[i]
			b.printf(" %s | %s |", short(a.wall), times(float64(a.wall)/float64(q.wall)))
			if a.records != q.records {
				b.fail("%s: %s gives %d records, and the embedded store %d", q.what, k.name, a.records, q.records)
			}
		}
		b.printf("\n")
	}
	b.printf("\n")
	return nil
}

// keep fills a fresh store and asks it.
func (t *besideText) keep(k *keptIn) (err error) {
	dir, err := t.scratch("kept")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	o := harness.CollectorOptions{Store: filepath.Join(dir, "store")}
	var cl *cluster.Cluster
	if k.shape != nil {
		if cl, err = cluster.New(filepath.Join(dir, "cluster"), *k.shape); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, cl.Close()) }()
		password := filepath.Join(dir, "password")
		if err := os.WriteFile(password, []byte(cluster.Password), 0o600); err != nil {
			return err
		}
		o.Cluster = fmt.Sprintf("clickhouse://%s/audit?user=%s&password_file=%s&shards=%d", strings.Join(cl.Addrs(), ","), cluster.User, password, cl.Shape.Shards)
	}
	c, err := harness.StartCollector(t.bins, o)
	if err != nil {
		return err
	}
	defer c.Kill()
	if err := t.fillKept(k, c, cl); err != nil {
		return err
	}
	to, err := openSocket(c.Store)
	if err != nil {
		return err
	}
	defer to.close()
	s := &dayStore{bench: t.bench, dir: c.Store}
	for _, q := range t.clusterQuestions() {
		words := []string{"search", "--raw", "--no-coverage-note"}
		if q.stats {
			words = []string{"report", "--no-coverage-note"}
		}
		a, err := s.ask(c, to, words, dayQuestion{q.what, q.ours, -1})
		if err != nil {
			return fmt.Errorf("%s: %w", q.what, err)
		}
		progress("%-12s %-30s %s records, %s", k.name, q.what, count(a.records), short(a.wall))
		k.answered = append(k.answered, a)
	}
	return nil
}

// fillKept gives all records to a collector and waits until they are stored.
func (t *besideText) fillKept(k *keptIn, c *harness.Collector, cl *cluster.Cluster) error {
	before, err := c.Usage()
	if err != nil {
		return err
	}
	nodes, keepers, _, err := usageOfCluster(cl)
	if err != nil {
		return err
	}
	var wall time.Duration
	for chunk := range t.chunks {
		texts, records, size, err := t.texts(chunk)
		if err != nil {
			return err
		}
		load := harness.Load{Addr: c.Addr(), Window: besideWindow, Texts: texts}
		got, err := load.Run(t.ctx)
		if err != nil {
			return err
		}
		wall, t.records, t.bytes = wall+got.Wall, t.records+records, t.bytes+size
	}
	begin := time.Now()
	if err := c.Settle(2*time.Second, 3*time.Minute); err != nil {
		return err
	}
	wall += max(0, time.Since(begin)-2*time.Second)
	after, err := c.Usage()
	if err != nil {
		return err
	}
	k.run = besideRun{rate: float64(t.records) / wall.Seconds(), cpu: (after.CPU - before.CPU).Seconds() / float64(t.records) * 1e6, rss: after.PeakRSS}
	nodesAfter, keepersAfter, memory, err := usageOfCluster(cl)
	if err != nil {
		return err
	}
	k.servers, k.keepers, k.memory = (nodesAfter-nodes).Seconds()/float64(t.records)*1e6, (keepersAfter-keepers).Seconds()/float64(t.records)*1e6, memory
	progress("%-12s %s records/s, collector %.1f µs, servers %.1f µs a record", k.name, count(k.run.rate), k.run.cpu, k.servers)
	if cl == nil {
		k.run.disk, err = partitionBytes(c.Store)
		return err
	}
	for shard := range cl.Shape.Shards {
		text, err := cl.Shard(shard + 1)[0].Query("SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = 'audit'")
		if err != nil {
			return err
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return err
		}
		k.run.disk += n
	}
	return nil
}

// usageOfCluster is the CPU of all ClickHouse servers and of all ZooKeepers, and the memory of the largest server. A nil cluster has none.
func usageOfCluster(cl *cluster.Cluster) (nodes, keepers time.Duration, memory int64, _ error) {
	if cl == nil {
		return 0, 0, 0, nil
	}
	for _, n := range cl.Nodes {
		u, err := n.Proc().Usage()
		if err != nil {
			return 0, 0, 0, err
		}
		nodes, memory = nodes+u.CPU, max(memory, u.PeakRSS)
	}
	for _, k := range cl.Keepers {
		u, err := k.Proc().Usage()
		if err != nil {
			return 0, 0, 0, err
		}
		keepers += u.CPU
	}
	return nodes, keepers, memory, nil
}

// clusterQuestions are for few records, for none, for many, and counts.
func (t *besideText) clusterQuestions() []besideQuestion {
	from := t.start.Add(time.Hour).Local()
	until := from.Add(time.Hour - time.Second)
	hour := []string{"-n", "host0007", "-ts", from.Format("01/02/2006"), from.Format("15:04:05"), "-te", until.Format("01/02/2006"), until.Format("15:04:05")}
	at := t.rare().Local()
	second := []string{"-n", "host0007", "-ts", at.Format("01/02/2006"), at.Format("15:04:05"), "-te", at.Format("01/02/2006"), at.Format("15:04:05")}
	return []besideQuestion{
		{what: "a rare key", ours: []string{"-k", rareKey}},
		{what: "a process", ours: []string{"-p", fmt.Sprint(rareProc)}},
		{what: "an event", ours: []string{"-a", fmt.Sprint(rareSer)}},
		{what: "a key that none has", ours: []string{"-k", "hay"}},
		{what: "a file that none has", ours: []string{"-w", "-f", "/srv/hay/hay.conf"}},
		{what: "one host, one second", ours: second},
		{what: "one host, one hour", ours: hour},
		{what: "a type", ours: []string{"-m", "USER_START"}},
		{what: "all", ours: []string{"-n", "host*"}}, // not what the collector writes of those that ask
		{what: "programs", ours: []string{"-x", "--summary"}, stats: true},
		{what: "the overview", ours: []string{"--summary"}, stats: true},
		{what: "by program", ours: []string{"--by", "exe"}, stats: true},
		{what: "by hour", ours: []string{"--every", "1h"}, stats: true},
		{what: "by program and user", ours: []string{"--by", "exe,auid"}, stats: true},
	}
}
