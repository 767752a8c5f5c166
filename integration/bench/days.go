package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
)

const (
	daySize   = 0.1   // GB a day, unless -size says
	dayHosts  = 50    // unless -hosts says
	dayConns  = 50    // connections that bring a day, as relays do where there are more hosts
	dayWindow = 256   // records in flight on each
	dayChunk  = 300e6 // bytes that are made and sent at once
	eventText = 967   // bytes an event of the recording has, on average
	eventOf   = 4.84  // records, likewise
	rareProc  = 260   // processes of the recording begin at 300
	rareExe   = "/opt/needle/bin/needle"
	rareFile  = "/srv/needle/needle.conf"
	rareSer   = 900_000_001
	rareLines = 4 // records of a rare event
)

// daysMade says what a store of many days has. It lies beside the store, for a run that only asks.
type daysMade struct {
	Days    int
	Hosts   int
	Bytes   int64 // of text
	Records int
	First   time.Time   // the first day's midnight
	Rare    []time.Time // of the rare events
	dir     string
}

// manyDays shows what questions cost as days come: of values that few days have or none, of a second, of much; and what they take on disk.
func (b *bench) manyDays() (returned error) {
	dir := b.store
	if dir == "" {
		var err error
		if dir, err = b.scratch("days"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	found, err := filepath.Glob(filepath.Join(dir, "*", "made.json"))
	if err != nil {
		return err
	}
	if len(found) > 0 {
		return b.askDays(found)
	}
	s := &dayStore{bench: b, dir: filepath.Join(dir, strconv.Itoa(b.days), "store"), made: &daysMade{Days: b.days, Hosts: dayHosts}}
	if b.given["hosts"] {
		s.made.Hosts = b.hosts
	}
	s.made.First = time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -b.days)
	if err := s.fill(); err != nil {
		return err
	}
	return s.print()
}

// askDays asks stores that were kept.
func (b *bench) askDays(made []string) error {
	s := &dayStore{bench: b}
	var all []*daysMade
	for _, file := range made {
		m := &daysMade{dir: filepath.Join(filepath.Dir(file), "store")}
		text, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(text, m)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b *daysMade) int { return a.Days - b.Days })
	for _, s.made = range all {
		s.dir = s.made.dir
		if err := s.mark(); err != nil {
			return err
		}
	}
	return s.print()
}

// dayStore is a store of many days, and what it was seen to cost.
type dayStore struct {
	*bench
	dir   string
	made  *daysMade
	marks []dayMark
	args  []string // of the collector
	runs  bool     // the last day is not over

	compacted []dayMark // of the same, in a copy
}

// marksOf are the numbers of days after which is asked: of all, the half, a quarter.
func marksOf(days int) (marks []int) {
	for n := days; n >= 1 && len(marks) < 3; n /= 2 {
		marks = append(marks, n)
	}
	slices.Reverse(marks)
	return marks
}

// fill makes the days one after another and asks at each mark, with a collector started anew.
func (s *dayStore) fill() error {
	size := int64(daySize * float64(gigabyte))
	if s.given["size"] {
		size = int64(s.size * float64(gigabyte))
	}
	days, marks := s.made.Days, marksOf(s.made.Days)
	// Few days have what is rare: the first, and two more that are there at the first mark.
	rare := map[int]bool{0: true, marks[0] / 2: true, marks[0] - 1: true}
	c, err := s.collector()
	if err != nil {
		return err
	}
	defer func() { c.Kill() }()
	for day := range days {
		s.made.Days = day + 1
		begin, before := time.Now(), s.made.Records
		if err := s.day(c, day, size, rare[day]); err != nil {
			return fmt.Errorf("day %d: %w; its output:\n%s", day+1, err, c.Output())
		}
		progress("day %d of %d, %s in all, %s records/s", day+1, days, mib(s.made.Bytes), count(float64(s.made.Records-before)/time.Since(begin).Seconds()))
		if !slices.Contains(marks, day+1) {
			continue
		}
		if err := c.Terminate(2 * time.Minute); err != nil {
			return err
		}
		if err := s.mark(); err != nil {
			return err
		}
		if err := s.keep(); err != nil {
			return err
		}
		if c, err = s.collector(); err != nil {
			return err
		}
	}
	return nil
}

// keep leaves the store of a mark where a later run finds it.
func (s *dayStore) keep() error {
	if s.store == "" {
		return nil
	}
	dir := filepath.Join(s.store, strconv.Itoa(s.made.Days))
	if store := filepath.Join(dir, "store"); store != s.dir {
		if err := copyStore(s.dir, store); err != nil {
			return err
		}
	}
	text, err := json.Marshal(s.made)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "made.json"), text, 0o600)
}

func copyStore(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	res, err := harness.Run(10*time.Minute, "cp", "-a", from, to)
	if err != nil || res.Code != 0 {
		return fmt.Errorf("copy the store: %w: %s", err, res.Stderr)
	}
	return nil
}

func (s *dayStore) collector() (*harness.Collector, error) {
	return harness.StartCollector(s.bins, harness.CollectorOptions{Store: s.dir, Args: append([]string{"--tcp-listen-queue", "1024"}, s.args...)})
}

// day sends the events of one day, and begins another partition behind it, as midnight does, unless it runs.
func (s *dayStore) day(c *harness.Collector, day int, size int64, rare bool) error {
	midnight := s.made.First.AddDate(0, 0, day)
	chunks := max(1, int((size+dayChunk-1)/dayChunk))
	part := 24 * time.Hour / time.Duration(chunks)
	for i := range chunks {
		events := float64(size) / float64(chunks) / eventText
		load := harness.Load{
			Addr: c.Addr(), Conns: dayConns, Window: dayWindow, Hosts: s.made.Hosts, Corpus: s.raw, Records: int(events * eventOf),
			Seed: uint64(day*chunks+i) * 1000, Start: midnight.Add(time.Duration(i) * part), Step: time.Duration(float64(part) * 0.97 * dayConns / events),
		}
		got, err := load.Run(s.ctx)
		if err != nil {
			return err
		}
		s.made.Bytes, s.made.Records = s.made.Bytes+got.Bytes, s.made.Records+got.Acked
	}
	if rare {
		at := midnight.Add(11*time.Hour + 2*time.Second)
		text := rareEvent(at)
		load := harness.Load{Addr: c.Addr(), Window: dayWindow, Texts: [][]byte{text}}
		got, err := load.Run(s.ctx)
		if err != nil {
			return err
		}
		s.made.Bytes, s.made.Records, s.made.Rare = s.made.Bytes+got.Bytes, s.made.Records+got.Acked, append(s.made.Rare, at)
	}
	if err := c.Settle(500*time.Millisecond, 2*time.Minute); err != nil {
		return err
	}
	if s.runs {
		return nil
	}
	return c.Signal(syscall.SIGUSR1)
}

// rareEvent is an event of which nothing but the host and the user are in any other.
func rareEvent(at time.Time) (text []byte) {
	head := func(kind string) string {
		return fmt.Sprintf("node=host0007 type=%s msg=audit(%d.%03d:%d): ", kind, at.Unix(), at.Nanosecond()/1e6, rareSer)
	}
	text = fmt.Appendf(text, "%sarch=c000003e syscall=257 success=yes exit=3 a0=ffffff9c a1=7ffd1d0c a2=0 a3=0 items=1 ppid=1 pid=%d auid=1000 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=pts0 ses=3 comm=\"needle\" exe=\"%s\" subj=unconfined key=\"%s\"\n", head("SYSCALL"), rareProc, rareExe, rareKey)
	text = fmt.Appendf(text, "%scwd=\"/srv/needle\"\n", head("CWD"))
	text = fmt.Appendf(text, "%sitem=0 name=\"%s\" inode=77 dev=fd:01 mode=0100600 ouid=0 ogid=0 rdev=00:00 nametype=NORMAL cap_fp=0 cap_fi=0 cap_fe=0 cap_fver=0 cap_frootid=0\n", head("PATH"), rareFile)
	return fmt.Appendf(text, "%sproctitle=6E6565646C65\n", head("PROCTITLE"))
}
