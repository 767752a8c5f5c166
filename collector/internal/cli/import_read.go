package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/importer"
	"github.com/auditfleet/auditfleet/pkg/oldlogs"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

// mostNamed is how many files are named for which one thing is to be said; the others are counted.
const mostNamed = 20

// find looks for the logs, says what is passed over, and refuses those of which nobody knows whose they are.
func (f *importFlags) find(ctx context.Context, args []string) (*oldlogs.Set, error) {
	if len(args) == 0 {
		return nil, nil
	}
	cfg := oldlogs.Config{Paths: args, Node: f.node}
	var err error
	if f.nodeFrom != "" {
		if cfg.NodeFrom, err = oldlogs.ParsePattern(f.nodeFrom); err != nil {
			return nil, err
		}
	}
	set, err := oldlogs.Find(ctx, cfg)
	if err != nil {
		return nil, err
	}
	for _, p := range set.Passed {
		quiet := false
		for _, why := range []error{oldlogs.ErrEmpty, oldlogs.ErrNoRecords, oldlogs.ErrNotRegular, oldlogs.ErrLink, oldlogs.ErrFarRecords} {
			quiet = quiet || errors.Is(p.Why, why)
		}
		if !quiet {
			f.damaged++
		}
		f.about(p.Path, "passed", p.Why.Error(), "passed over")
	}
	if err := f.nobodys(set); err != nil {
		return nil, err
	}
	if len(set.Files) == 0 {
		return nil, errors.New("no audit log is there")
	}
	return set, nil
}

// unknownHost is the host of records of which nobody says whose they are.
const unknownHost = "unknown"

// nobodys looks for logs of which nobody says whose they are. Those of one folder are one host's, which is called unknown;
// of several it is refused to make one host of them.
func (f *importFlags) nobodys(set *oldlogs.Set) error {
	var first string
	n, folders := 0, map[string]bool{}
	for _, file := range set.Files {
		if file.Node == "" && !file.Named {
			if n++; n == 1 {
				first = terminal.Clean(file.Path)
			}
			folders[filepath.Dir(file.Path)] = true
		}
	}
	more := ""
	if n > 1 {
		more = fmt.Sprintf(" (and %d more files)", n-1)
	}
	switch len(folders) {
	case 0:
		return nil
	case 1:
		f.complain("%s%s: its records name no host: kept under %q; --node NAME says whose they are", first, more, unknownHost)
	default:
		return fmt.Errorf("%s%s: its records name no host: say whose they are by --node NAME, or by --node-from PATTERN where the path tells", first, more)
	}
	for _, file := range set.Files {
		if file.Node == "" && !file.Named {
			file.Node = unknownHost
		}
	}
	return nil
}

// about says something of a file: on standard error of some files, for programs of each.
func (f *importFlags) about(path, state, why, then string) {
	if f.json != nil {
		f.json.line(map[string]any{"file": path, "state": state, "why": why})
	}
	f.shown[why]++
	if n := f.shown[why]; n <= mostNamed {
		f.complain("%s %s: %s", terminal.Clean(path), terminal.Clean(why), then)
	}
}

// more says of how many files nothing was said by name.
func (f *importFlags) more() {
	for why, n := range f.shown {
		if n > mostNamed {
			f.complain("and %d more files of which was to be said: %s", n-mostNamed, terminal.Clean(why))
		}
	}
}

// read imports the logs, and returns the exit code.
func (f *importFlags) read(ctx context.Context, set *oldlogs.Set, args []string, x imports) int {
	name := f.name
	if name == "" {
		name = importName(args)
	}
	sink, maxDays, err := x.begin(ctx, name, f.dry)
	if err != nil {
		f.complain("%v", err)
		return exitNotDone
	}
	f.sayRetention(set, maxDays)
	begin := time.Now()
	end := terminal.Status(f.program.stdio.Err, func() string { return f.progress(set, begin) })
	sum, err := importer.Read(ctx, set, sink, f.done)
	end()
	f.more()
	done, _ := set.Progress()
	f.summary(name, sum, done, time.Since(begin), err)
	switch {
	case errors.Is(err, context.Canceled):
		f.complain("interrupted: what was read is stored; give the same command again, and it goes on where it was")
		return exitNotDone
	case err != nil:
		f.complain("%v", err)
		return exitNotDone
	case f.damaged > 0 || f.unnamed > 0:
		return exitDamage
	}
	return 0
}

// done is told of each file.
func (f *importFlags) done(d importer.Done) {
	var records int64
	state, why := "read", ""
	switch {
	case d.Whole >= 0:
		state, records = "known", d.Whole
	default:
		records = d.Records
		if d.From > 0 {
			state = "grown"
		}
		if d.Damage != nil {
			f.damaged++
			state, why = "damaged", d.Damage.Error()
			f.complain("%s: %d records before that were read", terminal.Clean(why), d.Records)
		}
		if d.TooLong > 0 {
			f.damaged++
			f.complain("%s: %d lines are longer than 256 KiB, and passed over", terminal.Clean(d.Path), d.TooLong)
		}
		if d.Unnamed > 0 {
			f.unnamed += d.Unnamed
			f.complain("%s: %d records name no host, and are passed over: say whose they are by --node NAME", terminal.Clean(d.Path), d.Unnamed)
		}
	}
	if f.json != nil {
		line := map[string]any{"file": d.Path, "state": state, "records": records}
		if why != "" {
			line["why"] = why
		}
		f.json.line(line)
	}
}

// sayRetention says what retention would drop of what is about to be imported.
func (f *importFlags) sayRetention(set *oldlogs.Set, maxDays int64) {
	if maxDays <= 0 {
		return
	}
	oldest := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, 1-int(maxDays))
	old := 0
	for _, file := range set.Files {
		if file.Same == "" && file.First < oldest.UnixMilli() {
			old++
		}
	}
	if old > 0 {
		f.complain("%d of %d files have events of before %s, and max_days = %d: these are dropped once they have gone to the days in which they happened: raise max_days, or put the days on hold (`collector hold add`)",
			old, len(set.Files), oldest.Format(time.DateOnly), maxDays)
	}
}

// progress is the line that a terminal shows.
func (f *importFlags) progress(set *oldlogs.Set, begin time.Time) string {
	done, all := set.Progress()
	took := time.Since(begin).Seconds()
	rate := float64(done) / max(took, 0.001)
	left := ""
	if done > 0 && rate > 0 {
		left = ", " + time.Duration(float64(all-done)/rate*float64(time.Second)).Round(time.Second).String() + " left"
	}
	return fmt.Sprintf("import: %s of %s, %s/s%s", size(uint64(done)), size(uint64(all)), size(uint64(rate)), left)
}

// summary says what was done.
func (f *importFlags) summary(name string, sum importer.Sum, read int64, took time.Duration, err error) {
	if f.json != nil {
		f.json.sum(sum)
		return
	}
	if err != nil && sum == (importer.Sum{}) {
		return
	}
	what := "import " + name
	stored := "stored"
	if f.dry {
		what, stored = "import "+name+" (nothing was stored: --dry-run)", "would be stored"
	}
	seconds := max(took.Seconds(), 0.001)
	fmt.Fprintf(f.program.stdio.Out, "%s: %d files, %d records: %d %s, %d skipped, for the store has them; %s in %s, %.0f records/s\n",
		what, sum.Files, sum.Records, sum.Stored, stored, sum.Skipped, size(uint64(read)), took.Round(10*time.Millisecond), float64(sum.Records)/seconds)
	if !f.dry && sum.Stored > 0 {
		fmt.Fprintf(f.program.stdio.Out, "collector import --undo %s takes it back\n", name)
	}
}

// importJSON writes a line an object.
type importJSON struct{ enc *json.Encoder }

func newImportJSON(out io.Writer) *importJSON {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	return &importJSON{enc}
}

func (j *importJSON) line(x any) { _ = j.enc.Encode(x) } // a pipe that is closed ends the process

// sum is the last line.
func (j *importJSON) sum(s importer.Sum) { j.line(s) }

// printList lists imports.
func (f *importFlags) printList(ctx context.Context, x imports) int {
	list, err := x.list(ctx)
	if err != nil {
		f.complain("%v", err)
		return exitNotDone
	}
	if f.json == nil && len(list) > 0 {
		fmt.Fprintf(f.program.stdio.Out, "%-32s %8s %12s %-11s %-10s %-10s %s\n", "IMPORT", "FILES", "RECORDS", "STATE", "FIRST", "LAST", "DISK")
	}
	day := func(ms int64) string {
		if ms == 0 {
			return "-"
		}
		return time.UnixMilli(ms).UTC().Format(time.DateOnly)
	}
	for _, i := range list {
		if f.json != nil {
			f.json.line(map[string]any{"name": i.GetName(), "files": i.GetFiles(), "records": i.GetRecords(), "state": i.GetState(),
				"first": day(i.GetMinMs()), "last": day(i.GetMaxMs()), "disk_bytes": i.GetDiskBytes(), "by": i.GetBy(), "partitions": i.GetPartitions()})
			continue
		}
		line := fmt.Sprintf("%-32s %8d %12d %-11s %-10s %-10s %s", terminal.Clean(i.GetName()), i.GetFiles(), i.GetRecords(), i.GetState(), day(i.GetMinMs()), day(i.GetMaxMs()), size(i.GetDiskBytes()))
		fmt.Fprintln(f.program.stdio.Out, strings.TrimRight(line, " "))
	}
	if f.json == nil && len(list) == 0 {
		fmt.Fprintln(f.program.stdio.Out, "there is no import that can be taken back")
	}
	return 0
}
