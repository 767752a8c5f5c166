package importing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/pkg/oldlogs"
	"github.com/auditfleet/auditfleet/pkg/terminal"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// mostNamed is how many files are named for which one thing is to be said; the others are counted.
const mostNamed = 20

// find looks for the logs, says what is passed over, and refuses those of which nobody knows whose they are, where
// the host is not known.
func (c *Command) find(ctx context.Context, cfg oldlogs.Config) (*oldlogs.Set, error) {
	set, err := oldlogs.Find(ctx, cfg)
	if err != nil {
		return nil, err
	}
	for _, p := range set.Passed {
		quiet := false
		for _, why := range []error{oldlogs.ErrEmpty, oldlogs.ErrNoRecords, oldlogs.ErrNotRegular, oldlogs.ErrLink, oldlogs.ErrFarRecords, oldlogs.ErrSpool} {
			quiet = quiet || errors.Is(p.Why, why)
		}
		if !quiet {
			c.damaged++
		}
		c.about(p.Path, "passed", p.Why.Error(), "passed over")
	}
	if !c.OneHost {
		if err := c.nobodys(set); err != nil {
			return nil, err
		}
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
func (c *Command) nobodys(set *oldlogs.Set) error {
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
		c.Complain("%s%s: its records name no host: kept under %q; --node NAME says whose they are", first, more, unknownHost)
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
func (c *Command) about(path, state, why, then string) {
	if c.waited { // it was said
		return
	}
	if c.json != nil {
		c.json.line(map[string]any{"file": path, "state": state, "why": why})
	}
	c.shown[why]++
	if n := c.shown[why]; n <= mostNamed {
		c.Complain("%s %s: %s", terminal.Clean(path), terminal.Clean(why), then)
	}
}

// more says of how many files nothing was said by name.
func (c *Command) more() {
	for why, n := range c.shown {
		if n > mostNamed {
			c.Complain("and %d more files of which was to be said: %s", n-mostNamed, terminal.Clean(why))
		}
	}
}

// done is told of each file.
func (c *Command) done(d Done) {
	var records int64
	state, why, torn := "read", "", ""
	switch {
	case d.Whole >= 0:
		state, records = "known", d.Whole
	default:
		records = d.Records
		if d.From > 0 {
			state = "grown"
		}
		if d.Damage != nil {
			c.damaged++
			state, why = "damaged", d.Damage.Error()
			c.Complain("%s: %d records before that were read", terminal.Clean(why), d.Records)
		}
		if torn = string(d.Torn); torn != "" {
			c.sayTorn(d.Path, d.Torn)
		}
		if d.TooLong > 0 {
			c.damaged++
			c.Complain("%s: %d lines are longer than 256 KiB, and passed over", terminal.Clean(d.Path), d.TooLong)
		}
		if d.Other > 0 {
			c.others[d.Path] = d.Other
			if c.other == "" {
				c.other = fmt.Sprintf("%s:%d", d.Path, d.OtherLine)
			}
		}
		if d.Unnamed > 0 {
			c.unnamed += d.Unnamed
			c.Complain("%s: %d records name no host, and are passed over: say whose they are by --node NAME", terminal.Clean(d.Path), d.Unnamed)
		}
	}
	if c.json != nil {
		line := map[string]any{"file": d.Path, "state": state, "records": records}
		if why != "" {
			line["why"] = why
		}
		if torn != "" {
			line["torn"] = torn
		}
		if d.Summary != nil && d.Other > 0 {
			line["other"], line["other_line"] = d.Other, d.OtherLine
		}
		c.json.line(line)
	}
}

// sayTorn says what became of a file's last line.
func (c *Command) sayTorn(path string, torn oldlogs.Torn) {
	then := "its record is taken as far as it goes"
	switch torn {
	case oldlogs.TornWaits:
		then = "it was written less than a minute ago, so the line is left out: the same command reads it when it is whole"
	case oldlogs.TornLost:
		c.damaged++
		then = "there is no whole time and serial in that line: it is left out"
	}
	c.Complain("%s: the last line has no end: %s", terminal.Clean(path), then)
}

// sayRetention says what retention would drop of what is about to be imported.
func (c *Command) sayRetention(set *oldlogs.Set, maxDays int64) {
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
		c.Complain("%d of %d files have events of before %s, and the collector keeps all that it has for %d days only (max_days, retain): events that are kept no longer are dropped once they have gone to the days in which they happened: raise these, or put the days on hold (`collector hold add`)",
			old, len(set.Files), oldest.Format(time.DateOnly), maxDays)
	}
}

// progress is the line that a terminal shows.
func progress(set *oldlogs.Set, begin time.Time) string {
	done, all := set.Progress()
	took := time.Since(begin).Seconds()
	rate := float64(done) / max(took, 0.001)
	left := ""
	if done > 0 && rate > 0 {
		left = ", " + time.Duration(float64(all-done)/rate*float64(time.Second)).Round(time.Second).String() + " left"
	}
	return fmt.Sprintf("import: %s of %s, %s/s%s", terminal.Size(uint64(done)), terminal.Size(uint64(all)), terminal.Size(uint64(rate)), left)
}

// summary says what was done.
func (c *Command) summary(name string, sum Sum, read int64, took time.Duration, err error) {
	if c.json != nil {
		c.json.end(sum, err)
		return
	}
	if err != nil && (sum == (Sum{}) || errors.Is(err, ErrUnknown)) {
		return
	}
	what := "import " + name
	stored := "stored"
	if c.Dry {
		what, stored = "import "+name+" (nothing was stored: --dry-run)", "would be stored at most"
	}
	seconds := max(took.Seconds(), 0.001)
	fmt.Fprintf(c.out, "%s: %d files, %d records: %d %s, %d skipped, for the store has them; %s in %s, %.0f records/s\n",
		what, sum.Files, sum.Records, sum.Stored, stored, sum.Skipped, terminal.Size(uint64(read)), took.Round(10*time.Millisecond), float64(sum.Records)/seconds)
	if len(c.others) > 0 {
		n := int64(0)
		for _, lines := range c.others {
			n += lines
		}
		fmt.Fprintf(c.out, "%d lines of %d files are no audit records, and passed over: %s is the first\n", n, len(c.others), terminal.Clean(c.other))
	}
	if sum.Claims > 0 {
		fmt.Fprintf(c.out, "%d records have another host's name: they are kept under the name that this host has proved, and `collector search --mismatch` finds them\n", sum.Claims)
	}
	if !c.Dry && sum.Stored > 0 {
		fmt.Fprintf(c.out, "collector import --undo %s takes it back\n", name)
	}
}

// jsonLines writes a line an object.
type jsonLines struct{ enc *json.Encoder }

func newJSONLines(out io.Writer) *jsonLines {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	return &jsonLines{enc}
}

func (j *jsonLines) line(x any) { _ = j.enc.Encode(x) } // a pipe that is closed ends the process

// end writes the last line: what was done, as far as that is known, and why it was not done.
func (j *jsonLines) end(sum Sum, err error) {
	why := ""
	if err != nil {
		why = err.Error()
	}
	if errors.Is(err, ErrUnknown) {
		j.line(map[string]string{"error": why})
		return
	}
	j.line(struct {
		Sum
		Error string `json:"error,omitempty"`
	}{sum, why})
}

// sayUndone says what was taken back, and what could not be.
func (c *Command) sayUndone(done *fleet.UndoImportResponse) int {
	line, code := map[string]any{"undone": c.Undo, "records": done.GetRecords()}, ExitDone
	stays := done.GetStays()
	if stays > 0 {
		line["stays"], code = stays, ExitDamage
		c.Complain("%d events of import %s stay: they have gone to the days in which they happened", stays, c.Undo)
	}
	switch {
	case c.json != nil:
		c.json.line(line)
	case stays > 0:
		fmt.Fprintf(c.out, "import %s was taken back in part: %d records are dropped\n", c.Undo, done.GetRecords())
	default:
		fmt.Fprintf(c.out, "import %s was taken back: %d records are dropped\n", c.Undo, done.GetRecords())
	}
	return code
}

// printList lists imports.
func (c *Command) printList(ctx context.Context, t Target) int {
	list, err := t.ListImports(ctx)
	if err != nil {
		c.Complain("%v", err)
		return ExitNotDone
	}
	if c.json == nil && len(list) > 0 {
		fmt.Fprintf(c.out, "%-32s %8s %12s %-11s %-10s %-10s %s\n", "IMPORT", "FILES", "RECORDS", "STATE", "FIRST", "LAST", "DISK")
	}
	day := func(ms int64) string {
		if ms == 0 {
			return "-"
		}
		return time.UnixMilli(ms).UTC().Format(time.DateOnly)
	}
	for _, i := range list {
		if c.json != nil {
			c.json.line(map[string]any{"name": i.GetName(), "files": i.GetFiles(), "records": i.GetRecords(), "state": i.GetState(),
				"first": day(i.GetMinMs()), "last": day(i.GetMaxMs()), "disk_bytes": i.GetDiskBytes(), "by": i.GetBy(), "partitions": i.GetPartitions()})
			continue
		}
		line := fmt.Sprintf("%-32s %8d %12d %-11s %-10s %-10s %s", terminal.Clean(i.GetName()), i.GetFiles(), i.GetRecords(), i.GetState(), day(i.GetMinMs()), day(i.GetMaxMs()), terminal.Size(i.GetDiskBytes()))
		fmt.Fprintln(c.out, strings.TrimRight(line, " "))
	}
	if c.json == nil && len(list) == 0 {
		fmt.Fprintln(c.out, "there is no import that can be taken back")
	}
	return 0
}
