package head

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// A sender that has proved its name may go on with an event from another address, and
// after a restart; nobody else can add to it, whatever it calls itself.
func TestVerifiedSenderKeepsItsEvents(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := mustRig(t, dir, nil)
	conn := uint64(0)
	send := func(from journal.Sender, raw string) {
		conn++
		r.put(t, &journal.Batch{Conn: conn, Sender: from, Received: storetest.Start, Records: []journal.Record{{Raw: []byte(raw)}}})
	}
	web1 := func(i int) journal.Sender {
		return journal.Sender{Verified: "web1", Node: "alias", Addr: peer(i), Transport: event.TransportTCP}
	}
	send(web1(1), line("web1", 1, 1, "SYSCALL", "pid=1"))
	send(web1(2), line("web1", 1, 1, "CWD", "cwd=\"/\""))
	send(from(peer(1)), line("web1", 1, 1, "PATH", "name=\"lie\""))
	send(journal.Sender{Verified: "web2", Addr: peer(2), Transport: event.TransportTCP}, line("web1", 1, 1, "PROCTITLE", "proctitle=\"lie\""))
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	r = mustRig(t, dir, nil)
	send(web1(3), line("web1", 1, 1, "PROCTITLE", "proctitle=\"x\""))
	r.settle(t)
	got := events(t, r.h, &query.Query{Origin: true, Batches: true}) // complete ones
	want := []string{"web1 10.0.0.3 tcp: SYSCALL CWD PROCTITLE", "web2 10.0.0.2 tcp: PROCTITLE"}
	if !slices.Equal(got, want) {
		t.Errorf("events\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	send(web1(4), "type=USER_LOGIN msg=audit(1795334400.000:9): pid=1") // no node=
	r.settle(t)
	if got := texts(t, r.h, &query.Query{Nodes: []string{"web1"}}); len(got) != 2 {
		t.Errorf("a record without a name is not kept under the verified one: %q", got)
	}
}

// events are who sent each complete event, and its records' types.
func events(t *testing.T, s scanner, q *query.Query) (out []string) {
	t.Helper()
	if err := s.Scan(t.Context(), q, func(ev *event.Event) error {
		text := fmt.Sprintf("%s %v %v:", ev.From.Host, ev.From.Addr, ev.From.Transport)
		for i := range ev.Records {
			_, typ, _ := strings.Cut(string(ev.Records[i].Raw), "type=")
			typ, _, _ = strings.Cut(typ, " ")
			text += " " + typ
		}
		out = append(out, text)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}
