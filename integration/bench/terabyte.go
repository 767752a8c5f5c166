package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/integration/harness"
)

const (
	teraDays = 400
	teraSize = 2.5 // GB a day, unless -size says
)

// terabyte shows what questions cost over so many compacted days. Two are made as those of -only days are, one of them with the rare event; all others
// are their files with other days in them (laidDay), three of them with the rare event.
func (b *bench) terabyte() error {
	scratch, err := b.scratch("terabyte")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	dir := b.store
	if dir == "" {
		dir = scratch
	}
	b.askFew()
	s := &dayStore{bench: b, dir: filepath.Join(dir, "2", "store"), made: &daysMade{Days: 2, Hosts: dayHosts}}
	days := teraDays
	if b.given["days"] {
		days = b.days
	}
	made, err := os.ReadFile(filepath.Join(dir, "2", "made.json"))
	switch {
	case err == nil:
		err = json.Unmarshal(made, s.made)
	case errors.Is(err, os.ErrNotExist):
		err = s.twoDays()
	}
	if err != nil {
		return err
	}
	all := filepath.Join(scratch, "all", "store")
	if err := copyStore(s.dir, all); err != nil {
		return err
	}
	s.dir = all
	if did, err := harness.Measure(time.Hour, true, b.bins.Collector, "compact", "--today", "--store", s.dir); err != nil || did.Code != 0 {
		return fmt.Errorf("compact: %w: %s", err, did.Stderr)
	}
	text, records, rare := s.made.Bytes/int64(s.made.Days), s.made.Records/s.made.Days, s.made.Rare[:1]
	laid := 0
	for _, n := range marksOf(days) {
		if n < 8 {
			return fmt.Errorf("-days %d: at least 32", days)
		}
		for ; laid < n-2; laid++ {
			if err := s.lay(laid + 1); err != nil {
				return err
			}
		}
		s.made.Days, s.made.Bytes, s.made.Records = n, text*int64(n), records*n
		s.made.Rare = append([]time.Time{{}, {}}, rare...) // the last one is where it says
		if err := s.forget(); err != nil {
			return err
		}
		m, err := s.questions()
		if err != nil {
			return err
		}
		s.marks = append(s.marks, *m)
	}
	b.printf("## A terabyte\n\n%d compacted days of %s of text, %d hosts. Two were made; the others are copies of their files with other days in all tables and marks, but with\nthe same text: a question by time is of a day that was made. Nothing of the files was cached when the collector was started (the first question), all afterwards.\n\n", days, mib(text), s.made.Hosts)
	s.table(s.marks)
	return nil
}

// twoDays makes the days that others are made of. The first has the rare event.
func (s *dayStore) twoDays() error {
	size := teraSize
	if s.given["size"] {
		size = s.size
	}
	s.made.First = time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -2)
	c, err := s.collector()
	if err != nil {
		return err
	}
	defer c.Kill()
	for day := range 2 {
		if err := s.day(c, day, int64(size*float64(gigabyte)), day == 0); err != nil {
			return err
		}
	}
	if err := c.Terminate(2 * time.Minute); err != nil {
		return err
	}
	return s.keep()
}

// lay makes another day, so many before the first: of the first day where it is one of two, else of the second.
func (s *dayStore) lay(back int) error {
	of, day := s.made.First.AddDate(0, 0, 1), s.made.First.AddDate(0, 0, -back)
	if back == 1 || back == 5 {
		of = s.made.First
	}
	file := func(day time.Time) string { return filepath.Join(s.dir, "partitions", day.Format(time.DateOnly)+".db") }
	b, err := os.ReadFile(file(of))
	if err == nil {
		err = laidDay(b, of, day)
	}
	if err == nil {
		err = os.WriteFile(file(day), b, 0o600)
	}
	if err == nil {
		err = s.list(of, day)
	}
	return err
}

// list puts a day into the manifest, as another one is there.
func (s *dayStore) list(of, day time.Time) error {
	path := filepath.Join(s.dir, "MANIFEST")
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, rest, _ := bytes.Cut(b, []byte("\n"))
	text := rest[:max(0, bytes.LastIndex(rest, []byte("crc32c ")))]
	var all map[string]any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&all); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	parts, _ := all["partitions"].([]any)
	i := slices.IndexFunc(parts, func(p any) bool {
		entry, _ := p.(map[string]any)
		return entry["name"] == of.Format(time.DateOnly)
	})
	if i < 0 {
		return fmt.Errorf("%s: no partition %s", path, of.Format(time.DateOnly))
	}
	entry := map[string]any{}
	was, _ := parts[i].(map[string]any)
	for k, v := range was {
		if n, ok := v.(json.Number); ok && strings.HasSuffix(k, "_ms") {
			ms, err := n.Int64()
			if err != nil {
				return err
			}
			v = ms + day.Sub(of).Milliseconds()
		}
		entry[k] = v
	}
	entry["name"] = day.Format(time.DateOnly)
	parts = append(parts, entry)
	all["partitions"] = parts
	text, err = json.Marshal(all)
	if err != nil {
		return err
	}
	out := fmt.Appendf(nil, "%s\n%s\n", head, text)
	out = fmt.Appendf(out, "crc32c %08x\n", crc32.Checksum(out, castagnoli))
	return os.WriteFile(path, out, 0o600)
}

// forget has the system read the store's files from the disk again.
func (s *dayStore) forget() error {
	files, err := partitions(s.dir)
	if err != nil {
		return err
	}
	for _, path := range files {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		err = errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close())
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}
