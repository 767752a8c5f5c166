package report

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/pkg/nearest"
	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/timespec"
)

// Format is the format in which a report is written.
type Format uint8

// Formats.
const (
	FormatStock Format = iota // as aureport prints it; --by and --every as a table
	FormatTable
	FormatCSV
	FormatJSON
)

var formatNames = [...]string{"table", "csv", "json"}

// own reads an option that aureport has not.
func (p *parser) own(name string) error {
	v, err := p.value()
	if err != nil {
		if name == "--top" && p.pos+1 < len(p.args) && output.IsJSONNumber([]byte(p.args[p.pos+1])) {
			return badTop(p.args[p.pos+1]) // below 0
		}
		return err
	}
	group := func() *Group {
		if p.o.Group == nil {
			p.o.Group = &Group{}
		}
		return p.o.Group
	}
	switch name {
	case "--by":
		g := group()
		for field := range strings.SplitSeq(v, ",") {
			by, ok := byName(field)
			if !ok {
				return usagef("--by %s: there is no field %q%s", v, field, cmp.Or(nearest.Hint(field, fieldNames()), "; the fields are "+strings.Join(fieldNames(), ", ")))
			}
			g.By = append(g.By, by)
		}
	case "--top":
		n, err := strconv.ParseUint(v, 10, 31)
		if err != nil || n < 1 {
			return badTop(v)
		}
		p.o.Top = int(n)
	case "--every":
		group().Every, err = every(v)
		return err
	case "--format":
		f := slices.Index(formatNames[:], v)
		if f < 0 {
			return usagef("--format %s: one of table, csv and json is wanted", v)
		}
		p.o.Format = FormatTable + Format(f)
	}
	return nil
}

func badTop(v string) error { return usagef("--top %s: a number from 1 on is wanted", v) }

// every reads how long an interval is.
func every(v string) (time.Duration, error) {
	d, err := timespec.Duration(v)
	if err != nil || d < time.Second || d%time.Second != 0 {
		return 0, usagef("--every %s: a time of whole seconds such as 90s, 15m, 1h, 1d or 1w is wanted", v)
	}
	return d, nil
}

// ownDone checks what was said by options that aureport has not.
func (p *parser) ownDone() error {
	o := p.o
	if o.CSVSafe && o.Format != FormatCSV {
		o.Notes = append(o.Notes, "--csv-safe has no effect without --format csv")
	}
	if o.Group == nil {
		if o.Top != 0 && !o.Summary || o.Top != 0 && o.Kind == Overview {
			return usagef("--top is for --summary of a report, --by and --every, which have a largest: a list goes by time")
		}
		return nil
	}
	if o.Kind == LogTimes {
		return usagef("--by and --every have nothing to count in a report of logs")
	}
	if o.Kind == Overview {
		o.Kind = Event
	}
	o.Summary = false
	return nil
}
