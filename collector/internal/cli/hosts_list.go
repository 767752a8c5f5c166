package cli

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/several"
	"github.com/auditfleet/auditfleet/pkg/nearest"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// hostList is the list that hosts prints: which hosts, and how they are shown.
type hostList struct {
	now         time.Time
	silentAfter time.Duration
	onlySilent  bool
	wide        bool
	columns     int // the table should not be wider
	bold        bool
	toTerminal  bool
	csvSafe     bool
	known       []*fleet.Host
	whose       map[string][]several.Has // of several collectors, by host; nil for one
	cluster     []*fleet.Collector       // that keep events where the one that is asked does; none: it keeps them itself
	lacks       bytes.Buffer             // what of this is missing, in JSON, where that is asked for
	rows        []hostRow
	hosts       []*fleet.Host // of rows
	chosen      int           // hosts that the names choose, without the collector's own
	silent      int           // of these
}

// The states of a host.
const (
	stateConnected    = "connected"
	stateDisconnected = "disconnected"
	stateSilent       = "silent"
	stateOwn          = "own"      // the collector's own records
	stateImported     = "imported" // its records came from old logs alone
)

// choose puts the hosts that the names choose on the list; no names choose all. The error
// says which name chooses none.
func (l *hostList) choose(names []string) error {
	used := make([]bool, len(names))
	for _, h := range l.known {
		take := len(names) == 0
		for i, name := range names {
			if query.Like(name, string(h.GetName())) {
				take, used[i] = true, true
			}
		}
		if take {
			l.add(h)
		}
	}
	for i, ok := range used {
		if ok {
			continue
		}
		var all []string
		for _, h := range l.known {
			all = append(all, string(h.GetName()))
		}
		return fmt.Errorf("no host is called %.300q%s", names[i], nearest.Hint(names[i], all))
	}
	return nil
}

// add puts a host on the list, and finds out whether it is silent. The collector's own
// records have no address, and no rhythm: it is never silent.
func (l *hostList) add(h *fleet.Host) {
	r := rowOf(h)
	for _, has := range l.whose[r.Host] {
		r.Collectors = append(r.Collectors, collectorRow{Collector: has.Collector, Connected: has.Host.GetConnected(), Records: has.Host.GetRecords(), LastSeen: utc(has.Host.GetLastSeenMs())})
	}
	if l.whose == nil {
		r.Collectors = l.inCluster(h)
	}
	quiet := l.now.Sub(time.UnixMilli(h.GetLastSeenMs()))
	if h.GetLastSeenMs() == 0 && h.GetRecords() > 0 { // of an import alone
		r.State = stateImported
		l.chosen++
	} else if len(r.Addresses) == 0 {
		r.State = stateOwn
	} else if l.chosen++; l.silentAfter > 0 && quiet > l.silentAfter {
		r.State = stateSilent
		r.SilentSeconds = int64(quiet / time.Second)
		l.silent++
	}
	if l.onlySilent && r.State != stateSilent {
		return
	}
	l.rows, l.hosts = append(l.rows, r), append(l.hosts, h)
}

// shown is a host's name as the table has it.
func shown(h *fleet.Host) string {
	name := string(h.GetName())
	if name == "" {
		name = "(others)"
	}
	if also := h.GetAlso(); len(also) > 0 {
		name += " (" + string(also) + ")"
	}
	return name
}

// addresses are all that are known of a host, the latest first.
func addresses(h *fleet.Host) string {
	if len(h.GetAddresses()) == 0 {
		return "-"
	}
	return strings.Join(h.GetAddresses(), ",")
}

// lastAddress is the latest address of a host, and how many others there are.
func lastAddress(h *fleet.Host) string {
	all := h.GetAddresses()
	switch len(all) {
	case 0:
		return "-"
	case 1:
		return all[0]
	}
	return fmt.Sprintf("%s +%d", all[0], len(all)-1)
}

// write writes a text.
func write(out io.Writer, text []byte) error {
	_, err := out.Write(text)
	return err
}
