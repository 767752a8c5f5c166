package report

import (
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// TestGroupLogins counts login users by the names that hosts give them without reading, where each of these has a login user.
func TestGroupLogins(t *testing.T) {
	t.Parallel()
	const named, other = "\x1dARCH=x86_64 SYSCALL=openat AUID=\"alice\" UID=\"root\"", "\x1dAUID=\"bob\""
	login := "type=LOGIN msg=audit(1763800000.123:%): pid=5 uid=0 subj=unconfined old-auid=4294967295 auid=1000 tty=(none) old-ses=4294967295 ses=3 res=1\x1dUID=\"root\" OLD-AUID=\"unset\" AUID=\"bob\""
	for _, tt := range []struct {
		name    string
		records []string
		counted bool
	}{
		{"named", []string{byCall("1") + named, byCall("2") + named, byCall("3") + other}, true},
		{"some without a name", []string{byCall("1") + named, byCall("2"), byCall("3", "auid=1000", "auid=4294967295")}, true},
		{"none", []string{byCall("1"), byCall("2")}, true},
		{"without a user", []string{byCall("1") + named, strings.Replace(login, "auid=1000 ", "", 1)}, false},
		{"two names in an event", []string{byCall("1") + named, strings.Replace(login, "%", "1", 1)}, true},
	} {
		events := eventsOf(strings.Join(tt.records, "\n") + "\n")
		o := &Options{Group: &Group{By: []By{{Field: query.FieldAUID}}}, Interpret: true}
		ways := o.ways()
		if len(ways) != 2 {
			t.Fatalf("%d ways", len(ways))
		}
		sum := query.NewTally(ways[0], nil)
		var rest []*event.Event
		for _, ev := range events {
			if !sum.AddEvent(ev) {
				rest = append(rest, ev)
			}
		}
		if got := newGrouper(o, time.UTC).take(sum); got != tt.counted {
			t.Errorf("%s: counted: %v, want %v; %d events are read", tt.name, got, tt.counted, len(rest))
		}
		if _, d := tallyOrRead(t, o, events); d != "" {
			t.Errorf("%s (-read +counted):\n%s", tt.name, d)
		}
	}
}
