package main

import (
	"bytes"
	"debug/buildinfo"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
)

const (
	besideSize   = 0.3  // GB, unless -size says
	besideChunk  = 60e6 // bytes of text that are made and sent at once
	besideWindow = 256
)

// besideQuestion is one question in both languages. Ours prints whole events; words of theirs finds the records that match alone.
type besideQuestion struct {
	what  string
	ours  []string
	words string
	stats bool // theirs counts, and there are no events to print
}

// besideRun is what one of the two programs took in.
type besideRun struct {
	rate, cpu float64 // records/s; µs a record, until all is on disk and the program has stopped
	disk      int64
	rss       int64
}

// besideText is the same text for both, in chunks of one text a connection.
type besideText struct {
	*bench
	hosts, chunks int
	step          time.Duration
	start         time.Time
	bytes         int64
	records       int
}

// beside compares with VictoriaLogs: what comes in, what it takes, and the same questions.
func (b *bench) beside() (returned error) {
	if b.victoria == "" {
		return errors.New("-victorialogs PATH is needed: go install github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs@v1.52.1")
	}
	size, hosts := besideSize*float64(gigabyte), dayHosts
	if b.given["size"] {
		size = b.size * float64(gigabyte)
	}
	if b.given["hosts"] {
		hosts = b.hosts
	}
	t := &besideText{bench: b, hosts: hosts, chunks: int(size/besideChunk) + 1, start: time.Now().UTC().Add(-6 * time.Hour).Truncate(time.Hour)}
	t.step = time.Duration(float64(4*time.Hour) * dayConns / (size / eventText))
	ours, c, err := t.fillOurs()
	if c != nil {
		defer func() { c.Kill() }()
	}
	if err != nil {
		return err
	}
	packed, compacted, err := t.compactOurs(c.Store, ours)
	if compacted != nil {
		defer func() { compacted.Kill() }()
	}
	if err != nil {
		return err
	}
	theirs, v, err := t.fillTheirs()
	if v != nil {
		defer v.Kill()
	}
	if err != nil {
		return err
	}
	built, err := buildinfo.ReadFile(b.victoria)
	if err != nil {
		return err
	}
	b.printf("## Beside VictoriaLogs\n\n")
	b.printf("VictoriaLogs %s. %s records, %s of text, %d hosts. Ours: %d senders × %d in flight by the audisp-remote protocol, on disk before it is acknowledged (`--flush sync`).\n", built.Main.Version, count(t.records), mib(t.bytes), hosts, dayConns, besideWindow)
	b.printf("VictoriaLogs: the same records as JSON lines with all their fields and the raw line, %s each to %d HTTP requests at once, acknowledged before they are on disk. The JSON is made before the clock runs.\n", "5,000", victoriaConns)
	b.printf("CPU is the server's, until all is stored and merged and it has stopped.\n\n")
	b.printf("| | records/s | CPU µs a record | disk, of the text | bytes a record | memory at most |\n|---|---|---|---|---|---|\n")
	for _, r := range []struct {
		name string
		besideRun
	}{{"ours", ours}, {"ours, compacted", packed}, {"VictoriaLogs", theirs}} {
		b.printf("| %s | %s | %.2f | %.1f %% | %.1f | %s |\n", r.name, count(r.rate), r.cpu, 100*float64(r.disk)/float64(t.bytes), float64(r.disk)/float64(t.records), mib(r.rss))
	}
	b.printf("\nQuestions, median. Ours: by the socket, and the whole process of `search --raw`, which print whole events in order. VictoriaLogs: over HTTP, the records that match alone,\nand the whole events by `event:in(… | fields event)`, in any order. CPU: the server's. Compacted: a copy of the store after `collector compact`.\n\n")
	b.printf("| question | records | ours | CPU | command | compacted | CPU | command | VictoriaLogs, the records that match | took | CPU | whole events | took | CPU |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, q := range t.questions() {
		if err := t.ask([]*harness.Collector{c, compacted}, v, q); err != nil {
			b.fail("%s: %v", q.what, err)
		}
		if b.ctx.Err() != nil {
			return b.ctx.Err()
		}
	}
	b.printf("\n")
	return nil
}

// texts makes one chunk, a text a connection. The first has a few rare events.
func (t *besideText) texts(chunk int) (texts [][]byte, records int, size int64, _ error) {
	part := 4 * time.Hour / time.Duration(t.chunks)
	for conn := range dayConns {
		var nodes []string
		for h := conn; h < t.hosts; h += dayConns {
			nodes = append(nodes, fmt.Sprintf("host%04d", h))
		}
		var text bytes.Buffer
		made, err := t.raw.Write(&text, harness.Make{
			Seed: uint64(chunk*1000 + conn), Bytes: besideChunk / dayConns, Nodes: nodes, Start: t.start.Add(time.Duration(chunk) * part), Step: t.step,
			RareKey: "seldom", RareEvery: 500,
		})
		if err != nil {
			return nil, 0, 0, err
		}
		records += made.Records
		if chunk == 0 && conn == 7 {
			for i := range 3 {
				text.Write(rareEvent(t.rare().Add(time.Duration(i) * time.Millisecond)))
				records += rareLines
			}
		}
		texts, size = append(texts, text.Bytes()), size+int64(text.Len())
	}
	return texts, records, size, nil
}

// rare is when the rare events are.
func (t *besideText) rare() time.Time { return t.start.Add(time.Minute) }

// fillOurs gives all chunks to a fresh collector, stops it, and starts it again.
func (t *besideText) fillOurs() (r besideRun, c *harness.Collector, _ error) {
	dir, err := t.scratch("ours")
	if err != nil {
		return r, nil, err
	}
	store := filepath.Join(dir, "store")
	if c, err = harness.StartCollector(t.bins, harness.CollectorOptions{Store: store}); err != nil {
		return r, nil, err
	}
	before, err := c.Usage()
	if err != nil {
		return r, c, err
	}
	var wall time.Duration
	for chunk := range t.chunks {
		texts, records, size, err := t.texts(chunk)
		if err != nil {
			return r, c, err
		}
		load := harness.Load{Addr: c.Addr(), Window: besideWindow, Texts: texts}
		got, err := load.Run(t.ctx)
		if err != nil {
			return r, c, err
		}
		wall, t.records, t.bytes = wall+got.Wall, t.records+records, t.bytes+size
		progress("ours: %s records, %s/s", count(t.records), count(got.Rate()))
	}
	if err := c.Settle(time.Second, 2*time.Minute); err != nil {
		return r, c, err
	}
	if err := errors.Join(c.Signal(syscall.SIGUSR1), c.Settle(time.Second, 2*time.Minute)); err != nil { // the partition is over, as at midnight
		return r, c, err
	}
	live, err := c.Usage()
	if err != nil {
		return r, c, err
	}
	if err := c.Terminate(2 * time.Minute); err != nil {
		return r, c, err
	}
	after, err := c.Usage()
	if err != nil {
		return r, c, err
	}
	r = besideRun{rate: float64(t.records) / wall.Seconds(), cpu: (after.CPU - before.CPU).Seconds() / float64(t.records) * 1e6, rss: live.PeakRSS}
	if r.disk, err = partitionBytes(store); err != nil {
		return r, c, err
	}
	c, err = harness.StartCollector(t.bins, harness.CollectorOptions{Store: store})
	return r, c, err
}

// compactOurs compacts a copy of the store and starts a collector on it. What was done is the other run's, with the compaction's CPU.
func (t *besideText) compactOurs(store string, r besideRun) (_ besideRun, c *harness.Collector, _ error) {
	dir, err := t.scratch("compacted")
	if err != nil {
		return r, nil, err
	}
	dir = filepath.Join(dir, "store")
	if err := copyStore(store, dir); err != nil {
		return r, nil, err
	}
	did, err := harness.Measure(10*time.Minute, true, t.bins.Collector, "compact", "--today", "--store", dir)
	if err != nil {
		return r, nil, err
	}
	if did.Code != 0 {
		return r, nil, fmt.Errorf("compact: exit %d: %s", did.Code, did.Stderr)
	}
	if r.disk, err = partitionBytes(dir); err != nil {
		return r, nil, err
	}
	r.cpu, r.rss = r.cpu+did.CPU.Seconds()/float64(t.records)*1e6, max(r.rss, did.Peak)
	progress("ours compacted in %s", short(did.Wall))
	c, err = harness.StartCollector(t.bins, harness.CollectorOptions{Store: dir})
	return r, c, err
}

// fillTheirs gives the same to a fresh VictoriaLogs, has it merge, stops it, and starts it again.
func (t *besideText) fillTheirs() (r besideRun, v *victoria, _ error) {
	dir, err := t.scratch("victoria")
	if err != nil {
		return r, nil, err
	}
	if v, err = startVictoria(t.victoria, dir); err != nil {
		return r, nil, err
	}
	before, err := v.Usage()
	if err != nil {
		return r, v, err
	}
	var wall time.Duration
	for chunk := range t.chunks {
		texts, records, _, err := t.texts(chunk)
		if err != nil {
			return r, v, err
		}
		bodies, err := jsonBodies(texts)
		if err != nil {
			return r, v, err
		}
		begin := time.Now()
		if err := v.insert(t.ctx, bodies); err != nil {
			return r, v, err
		}
		took := time.Since(begin)
		wall += took
		progress("VictoriaLogs: %s records/s", count(float64(records)/took.Seconds()))
	}
	live, err := v.merged()
	if err != nil {
		return r, v, err
	}
	if err := v.Terminate(2 * time.Minute); err != nil {
		return r, v, err
	}
	after, err := v.Usage()
	if err != nil {
		return r, v, err
	}
	r = besideRun{rate: float64(t.records) / wall.Seconds(), cpu: (after.CPU - before.CPU).Seconds() / float64(t.records) * 1e6, rss: live.PeakRSS}
	if r.disk, err = harness.DirSize(dir); err != nil {
		return r, v, err
	}
	v, err = startVictoria(t.victoria, dir)
	return r, v, err
}

// questions are those that an audit store is for, and counts.
func (t *besideText) questions() []besideQuestion {
	at := t.rare().Local()
	second := []string{"-n", "host0007", "-ts", at.Format("01/02/2006"), at.Format("15:04:05"), "-te", at.Format("01/02/2006"), at.Format("15:04:05")}
	utc := t.rare().UTC().Format("2006-01-02T15:04:05")
	return []besideQuestion{
		{"a key of one event in 500", []string{"-k", "seldom"}, `key:="seldom"`, false},
		{"a rare key", []string{"-k", rareKey}, fmt.Sprintf("key:=%q", rareKey), false},
		{"a rare process", []string{"-p", fmt.Sprint(rareProc)}, fmt.Sprintf(`pid:="%d"`, rareProc), false},
		{"a rare program", []string{"-w", "-x", rareExe}, fmt.Sprintf("exe:=%q", rareExe), false},
		{"a rare file", []string{"-w", "-f", rareFile}, fmt.Sprintf("name:=%q", rareFile), false},
		{"an event", []string{"-a", fmt.Sprint(rareSer)}, fmt.Sprintf(`serial:="%d"`, rareSer), false},
		{"a key that none has", []string{"-k", "hay"}, `key:="hay"`, false},
		{"a program that none has", []string{"-w", "-x", "/opt/hay/bin/hay"}, `exe:="/opt/hay/bin/hay"`, false},
		{"a file that none has", []string{"-w", "-f", "/srv/hay/hay.conf"}, `name:="/srv/hay/hay.conf"`, false},
		{"a second of one host", second, fmt.Sprintf(`_time:%sZ _stream:{host="host0007"}`, utc), false},
		{"a type", []string{"-m", "USER_START"}, `type:="USER_START"`, false},
		{"a user", []string{"-ui", "1001"}, `uid:="1001"`, false},
		{"count by program", []string{"--by", "exe"}, `* | stats by (exe) count() n`, true},
		{"count by hour", []string{"--every", "1h"}, `* | stats by (_time:1h) count() n`, true},
	}
}

// ask takes the median of several runs of each: our collectors, as they came and compacted, and VictoriaLogs.
func (t *besideText) ask(collectors []*harness.Collector, v *victoria, q besideQuestion) error {
	words := []string{"search", "--raw", "--no-coverage-note"}
	if q.stats {
		words = []string{"report", "--no-coverage-note"}
	}
	var answers []dayAnswer
	row := ""
	for _, c := range collectors {
		a, err := t.askOurs(c, words, q)
		if err != nil {
			return err
		}
		answers = append(answers, a)
		row += fmt.Sprintf(" %s | %s | %s |", short(a.wall), short(a.cpu), short(a.process))
	}
	ours, packed := answers[0], answers[1]
	if ours.records != packed.records {
		return fmt.Errorf("%d records, and %d once it is compacted", ours.records, packed.records)
	}
	query, whole := q.words, fmt.Sprintf("event:in(%s | fields event) | fields _msg", q.words)
	if !q.stats {
		query += " | fields _msg"
	}
	match, err := v.ask(query)
	if err != nil {
		return err
	}
	if q.stats {
		t.printf("| %s | %s |%s %s | %s | %s | | | |\n", q.what, count(ours.records), row, count(match.records), short(match.wall), short(match.cpu))
		progress("%-30s ours %s, compacted %s, VictoriaLogs %s", q.what, short(ours.wall), short(packed.wall), short(match.wall))
		return nil
	}
	all, err := v.ask(whole)
	if err != nil {
		return err
	}
	if all.records != ours.records {
		progress("%s: %d records of ours, %d of VictoriaLogs", q.what, ours.records, all.records)
	}
	progress("%-30s ours %s, compacted %s, VictoriaLogs %s, whole %s", q.what, short(ours.wall), short(packed.wall), short(match.wall), short(all.wall))
	t.printf("| %s: `%s` | %s |%s %s | %s | %s | %s | %s | %s |\n", q.what, q.words, count(ours.records), row,
		count(match.records), short(match.wall), short(match.cpu), count(all.records), short(all.wall), short(all.cpu))
	return nil
}

func (t *besideText) askOurs(c *harness.Collector, words []string, q besideQuestion) (a dayAnswer, _ error) {
	to, err := openSocket(c.Store)
	if err != nil {
		return a, err
	}
	defer to.close()
	s := &dayStore{bench: t.bench, dir: c.Store}
	return s.ask(c, to, words, dayQuestion{q.what, q.ours, -1})
}
