package witness

import (
	"os"
	"path/filepath"
	"testing"
)

// A finding is accepted by command while the forwarder writes it, as it does once it has said it in the stream: it stays
// accepted, wherever in the writing that comes, and when a kill leaves both files.
func TestAcceptedWhileWritten(t *testing.T) {
	r := newRig(t)
	l := newLog(t, "hub1", store1).grow(100, "a")
	r.gets(r.session("hub1:6060", l), l)
	r.gets(r.session("hub1:6060", l), newLog0(l).grow(60, "a"))
	r.found(Rewind)
	if err := r.k.Close(); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(r.spool, Dir)
	list, _, err := readIncidents(dir)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	open, accepted := filepath.Join(dir, incidentPrefix+list[0].ID), filepath.Join(dir, acceptedPrefix+list[0].ID)
	for round := range 50 {
		written := make(chan error)
		go func() { written <- r.k.writeIncident(list[0], list[0].encode()) }()
		n, err := Accept(r.spool, []string{list[0].ID}, false)
		if werr := <-written; err != nil || werr != nil || n != 1 {
			t.Fatal(round, n, err, werr)
		}
		if _, err := os.Lstat(open); !os.IsNotExist(err) {
			t.Errorf("round %d: an accepted finding is open again: %v", round, err)
		}
		if err := os.Rename(accepted, open); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(open)
	if err == nil {
		err = os.WriteFile(accepted, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if list, bad, err := readIncidents(dir); err != nil || len(bad) > 0 || len(list) != 1 || !list[0].Accepted {
		t.Errorf("%+v %v %v", list, bad, err)
	}
}
