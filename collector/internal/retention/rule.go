package retention

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/conf"
)

// Rule bounds what is kept of a class of events; 0 says nothing.
type Rule struct {
	store.Class
	Days  int   // instead of max_days
	Bytes int64 // on the disk; what is not divided into classes yet does not count
}

// Rules are in the order in which events are told apart: the first that an event belongs to counts.
type Rules []Rule

const (
	maxDays  = 1 << 20
	maxRules = 64
	// maxSelector bounds the pattern of a rule, which stands in each file of its class.
	maxSelector = 256
)

// Add adds what a line says: "web*: 400d", "web*: 50G", "key noise: 7d", or both limits with a comma between
// them. Two lines of one class are one rule. The error says what to write.
func (r *Rules) Add(line string) error {
	const form = "write HOSTS: 400d, HOSTS: 50G or key KEY: 7d"
	i := strings.LastIndexByte(line, ':')
	if i < 0 {
		return fmt.Errorf("no colon behind the hosts or the key: %s", form)
	}
	add := Rule{}
	selector := strings.TrimSpace(line[:i])
	key, isKey := strings.CutPrefix(selector, "key ")
	key = strings.TrimSpace(key)
	switch {
	case len(selector) > maxSelector:
		return fmt.Errorf("a pattern of %d bytes: %d is the most", len(selector), maxSelector)
	case isKey && key != "":
		add.Key = key
	case selector == "" || isKey || selector == "key":
		return fmt.Errorf("no hosts and no key before the colon: %s", form)
	case strings.ContainsAny(selector, " ,"):
		return fmt.Errorf("%.80q is not one pattern of hosts: %s, and a line for each", selector, form)
	default:
		add.Hosts = selector
	}
	for one := range strings.SplitSeq(line[i+1:], ",") {
		if err := add.limit(strings.TrimSpace(one)); err != nil {
			return fmt.Errorf("%w: %s", err, form)
		}
	}
	at := slices.IndexFunc(*r, func(have Rule) bool { return have.Class == add.Class })
	if at < 0 {
		if len(*r) >= maxRules {
			return fmt.Errorf("more than %d classes: each costs compaction another reading of a day", maxRules)
		}
		*r = append(*r, add)
		return nil
	}
	have := &(*r)[at]
	if have.Days > 0 && add.Days > 0 || have.Bytes > 0 && add.Bytes > 0 {
		return fmt.Errorf("%s has such a limit already, in a line before", have.Class)
	}
	have.Days, have.Bytes = have.Days+add.Days, have.Bytes+add.Bytes
	return nil
}

// limit reads 400d or 50G.
func (r *Rule) limit(v string) error {
	switch number, days := strings.CutSuffix(v, "d"); {
	case v == "":
		return fmt.Errorf("no limit behind the colon")
	case days:
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 || n > maxDays || r.Days > 0 {
			return fmt.Errorf("%.40q is not a number of days from 1 to %d, given once", v, maxDays)
		}
		r.Days = n
	case v[len(v)-1] >= '0' && v[len(v)-1] <= '9': // "web*: 90" must not keep 90 bytes
		return fmt.Errorf("%.40q is neither a number of days, as 400d, nor a size with its unit, as 50G", v)
	default:
		n, err := conf.ParseBytes(v)
		if err != nil {
			return err
		}
		if n < 1 || r.Bytes > 0 {
			return fmt.Errorf("%.40q is not a size, given once", v)
		}
		r.Bytes = n
	}
	return nil
}

// String returns a rule as a line has it.
func (r Rule) String() string {
	var limits []string
	if r.Days > 0 {
		limits = append(limits, strconv.Itoa(r.Days)+"d")
	}
	if r.Bytes > 0 {
		limits = append(limits, conf.FormatBytes(r.Bytes))
	}
	return r.Class.String() + ": " + strings.Join(limits, ", ")
}

// Classes are those by which days are divided.
func (r Rules) Classes() (out store.Classes) {
	for _, rule := range r {
		out = append(out, rule.Class)
	}
	return out
}

// Kept is what there is of a class.
type Kept struct {
	Class, Limit      string
	Parts             int
	Events, DiskBytes uint64
	// Days and MaxBytes are the limits, 0 for none, Oldest is the first day of which there is something, and Daily what the
	// class takes of a day: of the latest of up to eight days before today, for today and yesterday may not be divided yet.
	Days     int
	MaxBytes int64
	Oldest   store.Day
	Daily    uint64
}

// latest is how many days tell what a day takes.
const latest = 7

// ByClass returns what there is of each class, the rest and what is not divided last; nothing without rules.
func (l Limits) ByClass(parts []store.PartStats, today store.Day) (out []Kept) {
	if len(l.Rules) == 0 {
		return nil
	}
	classes := l.Rules.Classes()
	for _, r := range l.Rules {
		_, limit, _ := strings.Cut(r.String()[len(r.Class.String()):], ": ")
		out = append(out, Kept{Class: r.Class.String(), Limit: limit, Days: cmp.Or(r.Days, l.MaxDays), MaxBytes: r.Bytes})
	}
	rest, whole := len(out), len(out)+1
	out = append(out, Kept{Class: "others", Limit: inDays(l.MaxDays), Days: l.MaxDays}, Kept{Class: "what is not divided", Limit: inDays(l.days(&store.PartStats{})), Days: l.days(&store.PartStats{})})
	for i := range parts {
		p := &parts[i]
		at := slices.IndexFunc(classes, func(c store.Class) bool { return c.String() == p.Class })
		switch {
		case at >= 0:
		case p.Class == classes.Rest():
			at = rest
		default:
			at = whole
		}
		k := &out[at]
		if k.Parts == 0 || p.Day < k.Oldest {
			k.Oldest = p.Day
		}
		k.Parts, k.Events, k.DiskBytes = k.Parts+1, k.Events+p.Events, k.DiskBytes+p.DiskBytes
		if before := today - p.Day; before > 1 && before <= latest+1 {
			k.Daily += p.DiskBytes
		}
	}
	for i := range out {
		if k := &out[i]; k.Parts > 0 && today > k.Oldest {
			k.Daily /= uint64(min(latest, max(1, today-k.Oldest-1)))
		}
	}
	return out
}

func inDays(n int) string {
	if n == 0 {
		return "all"
	}
	return strconv.Itoa(n) + "d"
}

// Shortest is how many days all events are kept at least, as far as days are concerned; 0 is for ever.
func (l Limits) Shortest() int {
	least := l.MaxDays
	for _, r := range l.Rules {
		if r.Days > 0 && (least == 0 || r.Days < least) {
			least = r.Days
		}
	}
	return least
}
