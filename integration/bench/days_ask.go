package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
)

// dayMark is what was seen when so many days were stored.
type dayMark struct {
	days, parts int
	bytes, disk int64
	compacting  *harness.Measured // what made it of the one before; nil of a store as it came
	start       time.Duration     // until ready
	first       time.Duration     // of the first question after it
	rss         int64             // after all questions
	asked       []dayAnswer
	much        []dayAnswer
	counted     []dayAnswer
}

// dayAnswer is one question's.
type dayAnswer struct {
	what string
	args []string
	asked
	process time.Duration // of a command, from its start to its end
}

// dayQuestion has how many records must come, or -1 where that is not known.
type dayQuestion struct {
	what string
	args []string
	want int
}

// selective are questions of which few records or none come.
func (s *dayStore) selective() []dayQuestion {
	all := len(s.made.Rare) * rareLines
	at := s.made.Rare[len(s.made.Rare)-1].Local()
	second := []string{"-n", "host0007", "-ts", at.Format("01/02/2006"), at.Format("15:04:05"), "-te", at.Format("01/02/2006"), at.Format("15:04:05")}
	few, none := fmt.Sprintf("in %d days: ", len(s.made.Rare)), "in none: "
	return []dayQuestion{
		{few + "key", []string{"-k", rareKey}, all},
		{few + "process", []string{"-p", fmt.Sprint(rareProc)}, all},
		{few + "program", []string{"-x", rareExe}, all},
		{few + "file", []string{"-f", rareFile}, all},
		{few + "event", []string{"-a", fmt.Sprint(rareSer)}, all},
		{none + "key", []string{"-k", "hay"}, 0},
		{none + "process", []string{"-p", "270"}, 0},
		{none + "program", []string{"-x", "/opt/hay/bin/hay"}, 0},
		{none + "program, the whole name", []string{"-w", "-x", "/opt/hay/bin/hay"}, 0},
		{none + "file", []string{"-f", "/srv/hay/hay.conf"}, 0},
		{none + "file, the whole name", []string{"-w", "-f", "/srv/hay/hay.conf"}, 0},
		{none + "event", []string{"-a", "900000002"}, 0},
		{none + "user", []string{"-ui", "4242"}, 0},
		{"a second of one host", second, -1},
	}
}

// askFew leaves out questions for much, unless -ask names them: of a day of some GB a socket gives no such answer.
func (b *bench) askFew() {
	if !b.given["ask"] {
		b.asks = "few"
	}
}

// plentiful are questions of which many records come, of the last day.
func (s *dayStore) plentiful() []dayQuestion {
	from := s.made.First.AddDate(0, 0, s.made.Days-1).Local()
	to := from.AddDate(0, 0, 1).Add(-time.Second)
	day := []string{"-ts", from.Format("01/02/2006"), from.Format("15:04:05"), "-te", to.Format("01/02/2006"), to.Format("15:04:05")}
	return []dayQuestion{
		{"a user of one record in ten", append([]string{"-ui", "1001"}, day...), -1}, // first: the next one leaves the day's texts unpacked in memory
		{"a type of most events", append([]string{"-m", "SYSCALL"}, day...), -1},
		{"a type of one event in 60", append([]string{"-m", "USER_START"}, day...), -1},
	}
}

// counts are reports over all days.
func counts() (all []dayQuestion) {
	for _, args := range [][]string{
		{"-x", "--summary"}, {"-x", "-i", "--summary"}, {"-u", "-i", "--summary"}, {"-f", "--summary"}, {"-p", "--summary"}, {"--summary"},
		{"--by", "exe"}, {"--by", "auid", "-i"}, {"--by", "node"}, {"--by", "key"}, {"--every", "1d"}, {"--every", "1h"},
		{"--by", "exe", "--every", "1d"}, {"--by", "exe", "--every", "1h"}, {"--by", "exe,auid"},
	} {
		all = append(all, dayQuestion{strings.Join(args, " "), args, -1})
	}
	return all
}

// mark asks of the store as it came, and of a copy that was compacted where the collector can do that.
func (s *dayStore) mark() error {
	m, err := s.questions()
	if err != nil {
		return err
	}
	s.marks = append(s.marks, *m)
	if res, err := harness.Run(10*time.Second, s.bins.Collector, "compact", "--help"); err != nil || !strings.Contains(string(res.Stdout), "--store") {
		return nil // this collector has no such command
	}
	dir, err := s.scratch("compacted")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	packed := &dayStore{bench: s.bench, made: s.made, dir: filepath.Join(dir, "store")}
	if err := copyStore(s.dir, packed.dir); err != nil {
		return err
	}
	before, err := partitions(packed.dir)
	if err != nil {
		return err
	}
	did, err := harness.Measure(time.Hour, true, s.bins.Collector, "compact", "--today", "--store", packed.dir)
	if err != nil {
		return err
	}
	if did.Code != 0 {
		return fmt.Errorf("compact: exit %d: %s", did.Code, did.Stderr)
	}
	after, err := partitions(packed.dir)
	if err != nil || slices.Equal(before, after) {
		return err // it was compacted already
	}
	progress("%d days: compacted in %s, CPU %s, %s", m.days, short(did.Wall), short(did.CPU), mib(did.Peak))
	if m, err = packed.questions(); err != nil {
		return fmt.Errorf("compacted: %w", err)
	}
	m.compacting = did
	s.compacted = append(s.compacted, *m)
	return nil
}

// questions asks a collector that is started anew.
func (s *dayStore) questions() (*dayMark, error) {
	m := &dayMark{days: s.made.Days, bytes: s.made.Bytes}
	parts, err := partitions(s.dir)
	if err != nil {
		return nil, err
	}
	m.parts = len(parts)
	if m.disk, err = partitionBytes(s.dir); err != nil {
		return nil, err
	}
	begin := time.Now()
	c, err := s.collector()
	if err != nil {
		return nil, err
	}
	defer c.Kill()
	m.start = time.Since(begin)
	begin = time.Now()
	if _, err := c.Search(time.Minute, "--raw", "-k", rareKey); err != nil {
		return nil, err
	}
	m.first = time.Since(begin)
	to, err := openSocket(s.dir)
	if err != nil {
		return nil, err
	}
	defer to.close()
	for _, part := range []struct {
		name  string
		to    *[]dayAnswer
		words string
		of    []dayQuestion
	}{
		{"few", &m.asked, "search --raw --no-coverage-note", s.selective()},
		{"many", &m.much, "search --raw --no-coverage-note", s.plentiful()},
		{"counts", &m.counted, "report --no-coverage-note", counts()},
	} {
		if !slices.Contains(strings.Split(s.asks, ","), part.name) {
			continue
		}
		for _, q := range part.of {
			a, err := s.ask(c, to, strings.Fields(part.words), q)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", q.what, err)
			}
			progress("%d days: %-40s %9s records in %8s, CPU %s", m.days, q.what, count(a.records), short(a.wall), short(a.cpu))
			*part.to = append(*part.to, a)
			if s.ctx.Err() != nil {
				return nil, s.ctx.Err()
			}
		}
	}
	live, err := c.Usage()
	if err != nil {
		return nil, err
	}
	m.rss = live.PeakRSS
	return m, c.Terminate(2 * time.Minute)
}

// ask takes the median of several runs, by the socket and of a command.
func (s *dayStore) ask(c *harness.Collector, to *socket, words []string, q dayQuestion) (a dayAnswer, err error) {
	args := append(words[1:len(words):len(words)], q.args...)
	if a.asked, err = to.take(s.ctx, c.Proc, words[0], args); err != nil {
		return a, err
	}
	var walls []time.Duration
	for spent := time.Duration(0); len(walls) < 9 && (len(walls) < 3 || spent < 2*time.Second) && spent < longAnswer; {
		m, err := harness.Measure(5*time.Minute, false, append([]string{s.bins.Collector, words[0], "--store", s.dir}, args...)...)
		if err != nil {
			return a, err
		}
		if m.Code < 0 || m.Code > 1 || m.Code == 1 && words[0] == "report" {
			return a, fmt.Errorf("exit %d: %s", m.Code, m.Stderr)
		}
		walls, spent = append(walls, m.Wall), spent+m.Wall
	}
	if q.want >= 0 && a.records != q.want {
		return a, fmt.Errorf("%d records came of %d", a.records, q.want)
	}
	a.what, a.args, a.process = q.what, q.args, median(walls)
	return a, nil
}

// print writes the tables.
func (s *dayStore) print() error {
	last := s.marks[len(s.marks)-1]
	s.printf("## As days come\n\n%d days, %s of text, %s records, %d hosts; a collector that was started anew, files cached, median of what its\n", last.days, mib(last.bytes), count(s.made.Records), s.made.Hosts)
	s.printf("socket answers. A day more: from the first column to the last. CPU: the server's, of the last column; command: a whole process of\n`search` or `report` then.\n\n")
	s.table(s.marks)
	if len(s.compacted) > 0 {
		s.printf("Compacted by `collector compact`:\n\n")
		s.table(s.compacted)
	}
	return nil
}

// table has a column a mark, and what a day more costs.
func (s *dayStore) table(marks []dayMark) {
	first, last := &marks[0], &marks[len(marks)-1]
	s.printf("| stored |")
	for _, m := range marks {
		s.printf(" %d days |", m.days)
	}
	s.printf(" a day more | records | CPU | command |\n|---|%s---|---|---|---|\n", strings.Repeat("---|", len(marks)))
	row := func(what string, cell func(m *dayMark) string) {
		s.printf("| %s |", what)
		for i := range marks {
			s.printf(" %s |", cell(&marks[i]))
		}
		s.printf(" | | | |\n")
	}
	row("disk, of the text", func(m *dayMark) string { return fmt.Sprintf("%.2f %%", 100*float64(m.disk)/float64(m.bytes)) })
	row("files of days", func(m *dayMark) string { return fmt.Sprint(m.parts) })
	if first.compacting != nil {
		row("compacting: took, MB of text a CPU second", func(m *dayMark) string {
			return fmt.Sprintf("%s, %.0f", short(m.compacting.Wall), float64(m.bytes)/1e6/m.compacting.CPU.Seconds())
		})
		row("its memory at most", func(m *dayMark) string { return mib(m.compacting.Peak) })
	}
	row("start until ready", func(m *dayMark) string { return short(m.start) })
	row("the first question", func(m *dayMark) string { return short(m.first) })
	row("the server's memory at most", func(m *dayMark) string { return mib(m.rss) })
	for i, a := range last.asked {
		s.row(marks, a, func(m *dayMark) dayAnswer { return m.asked[i] }, false)
	}
	for i, a := range last.much {
		s.row(marks, a, func(m *dayMark) dayAnswer { return m.much[i] }, true)
	}
	for i, a := range last.counted {
		s.row(marks, a, func(m *dayMark) dayAnswer { return m.counted[i] }, false)
	}
	s.printf("\n")
}

// row is one question's: the last mark's answer, and each mark's.
func (s *dayStore) row(marks []dayMark, a dayAnswer, of func(m *dayMark) dayAnswer, much bool) {
	what := a.what
	if words := strings.Join(a.args, " "); words == what {
		what = "`report " + words + "`"
	} else if len(words) < 40 {
		what += ": `" + words + "`"
	}
	s.printf("| %s |", what)
	for i := range marks {
		at := of(&marks[i])
		s.printf(" %s", short(at.wall))
		if much {
			s.printf(", %s/s", count(float64(at.records)/at.wall.Seconds()))
		}
		s.printf(" |")
	}
	more := ""
	if days := marks[len(marks)-1].days - marks[0].days; days > 0 && !much {
		more = fmt.Sprintf("%d µs", ((a.wall - of(&marks[0]).wall) / time.Duration(days)).Microseconds())
	}
	s.printf(" %s | %s | %s | %s |\n", more, count(a.records), short(a.cpu), short(a.process))
}
