package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
)

// whole is what a tool makes of all records there are.
type whole struct {
	stock []string // program and options, without -if FILE
	ours  []string // subcommand and options
	store bool     // ours asks the store; otherwise it reads the same file
}

// fileWholes are full scans of the file, in every format; a search with each; and
// a report.
func fileWholes() (all []whole) {
	for _, narrow := range [][]string{nil, {"-k", rareKey}} {
		for _, format := range [][]string{{"--raw"}, {"-i"}, {"--format", "csv"}, {"--format", "text"}} {
			args := append(narrow[:len(narrow):len(narrow)], format...)
			all = append(all, whole{append([]string{"ausearch"}, args...), append([]string{"search"}, args...), false})
		}
	}
	return append(all, whole{[]string{"aureport", "-x", "-i"}, []string{"report", "-x", "-i"}, false})
}

// storeWholes are reports from the store: every summary, and the lists.
func storeWholes() (all []whole) {
	report := func(args ...string) {
		all = append(all, whole{append([]string{"aureport"}, args...), append([]string{"report"}, args...), true})
	}
	report("--summary")
	for _, kind := range []string{"-k", "-x", "-f", "-u", "-s", "-e", "-p", "-h", "-tm", "--comm", "-au", "-l", "-n", "-m", "-c", "-a", "-cr", "-r", "-ma", "--integrity", "--virt"} {
		report(kind, "--summary")
	}
	report("-u", "-i", "--summary")
	report("-s", "-i", "--summary")
	for _, kind := range []string{"-au", "-l", "-m", "-c", "-n", "-k", "-x", "-f"} {
		report(kind)
	}
	return all
}

// scans compares what has to look at everything in a file.
func (b *bench) scans() error {
	s, err := b.makeSearched()
	defer os.Remove(s.all)
	defer os.Remove(s.file)
	if err != nil {
		return err
	}
	b.printf("## Whole logs\n\n%s records, %s of text, cached.\n", count(s.made.Records), mib(s.made.Bytes))
	b.wholeHead(&s)
	for _, w := range fileWholes() {
		if err := b.whole("", &s, w); err != nil {
			b.fail("%s: %v", strings.Join(w.ours, " "), err)
		}
	}
	b.printf("\n")
	return context.Cause(b.ctx)
}

func (b *bench) wholeHead(s *searched) {
	b.printf("\nEverything at once; stock runs once. With `-if` ours reads the same file; reports are of the store. Where the stock tool was not done after %v\nit was ended, and the ratio is at least what stands there.", b.stockLimit)
	if s.factor > 1 {
		b.printf(" Stock's times of reports are multiplied by %.1f, which is too little where they grow faster than the log.", s.factor)
	}
	b.printf("\n\n| stock | ours | stock took | first | ours | first | ratio | stock CPU | ours | memory stock | ours |\n|---|---|---|---|---|---|---|---|---|---|---|\n")
}

func (b *bench) whole(store string, s *searched, w whole) error {
	if b.ctx.Err() != nil {
		return b.ctx.Err()
	}
	stock, err := harness.Measure(b.stockLimit, w.store, append([]string{"/sbin/" + w.stock[0], "-if", s.file}, w.stock[1:]...)...)
	if err != nil {
		return err
	}
	args, words, factor := append([]string{"-if", s.file}, w.ours[1:]...), "-if", 1.0
	if w.store {
		args, words, factor = append([]string{"--store", store}, w.ours[1:]...), "store", s.factor
	}
	compare := w.store && s.factor == 1 && stock.Ended()
	ours, err := b.runs(10*time.Minute, compare, append(w.ours[:1:1], args...)...)
	if err != nil {
		return err
	}
	if stock.Ended() && ours.Code != stock.Code && s.factor == 1 {
		return fmt.Errorf("exit %d, stock %d: %s", ours.Code, stock.Code, ours.Stderr)
	}
	note, at := "", ""
	if !stock.Ended() {
		at = "> "
	} else if compare && !bytes.Equal(bytes.TrimSpace(sortedLines(stock.Stdout)), bytes.TrimSpace(sortedLines(ours.Stdout))) {
		note = " (the texts differ)"
	}
	took := time.Duration(float64(stock.Wall) * factor)
	progress("whole %-40s stock %s%s  ours %s%s", strings.Join(w.ours, " "), at, short(took), short(ours.Wall), note)
	b.printf("| `%s` | `%s` (%s)%s | %s%s | %s | %s | %s | %s%s | %s | %s | %s | %s |\n", strings.Join(w.stock, " "), strings.Join(w.ours, " "), words, note,
		at, short(took), firstByte(stock), short(ours.Wall), firstByte(ours), at, times(float64(took)/float64(ours.Wall)), short(stock.CPU), short(ours.CPU), mib(stock.Peak), mib(ours.Peak))
	return nil
}

// firstByte is when the output began, if it did.
func firstByte(m *harness.Measured) string {
	if m.Bytes == 0 {
		return "none"
	}
	return short(m.First)
}

// sortedLines is a report's text with its lines in one order: values that are
// counted equally often have none.
func sortedLines(text []byte) []byte { return []byte(strings.Join(lines(text), "\n")) }
