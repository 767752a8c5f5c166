package api

import (
	"context"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/pkg/importing"
	"github.com/auditfleet/auditfleet/pkg/oldlogs"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// brokenSink says when it is interrupted.
type brokenSink struct {
	fakeSink
	interrupted chan struct{}
}

func (s brokenSink) Interrupt(context.Context) (importing.Sum, error) {
	close(s.interrupted)
	return importing.Sum{}, nil
}

// slowSink takes a chunk when it is told to.
type slowSink struct {
	brokenSink
	began, goOn chan struct{}
}

func (s *slowSink) Chunk(context.Context, []byte, int64, oldlogs.Content) error {
	s.began <- struct{}{}
	<-s.goOn
	return nil
}

type slowImporter struct {
	fakeImporter
	sink *slowSink
}

func (i slowImporter) BeginImport(context.Context, Importing) (importing.Sink, int64, error) {
	return i.sink, 0, nil
}

// TestImportBreaksOff: an import whose caller dies is interrupted, also where the sink has a chunk and others wait: it would keep all
// others from importing.
func TestImportBreaksOff(t *testing.T) {
	sink := &slowSink{brokenSink: brokenSink{interrupted: make(chan struct{})}, began: make(chan struct{}, 3), goOn: make(chan struct{})}
	c := dial(t, serveAs(t, &Service{Importer: slowImporter{sink: sink}}, Allowed{GID: -1}))
	i, err := c.Imports().Begin(t.Context(), "old", false, []string{"logs"})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // one is taken, one is received, one comes
		if err := i.Chunk(t.Context(), []byte("x\n"), 2, oldlogs.Content{Size: 2}); err != nil {
			t.Fatal(err)
		}
	}
	<-sink.began
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond) // so that the collector hears of it while the sink is busy; the test holds without it, too
	close(sink.goOn)
	select {
	case <-sink.interrupted:
	case <-time.After(time.Minute):
		t.Error("it was not interrupted")
	}
}

// bigSink knows more files than a connection takes that nobody reads.
type bigSink struct{ brokenSink }

func (*bigSink) Known(context.Context) ([]importing.Known, error) {
	list, hash := make([]importing.Known, 200_000), make([]byte, 32)
	for i := range list {
		list[i] = importing.Known{Node: "web1", Head: hash, All: hash}
	}
	return list, nil
}

type stoppedImporter struct {
	fakeImporter
	sink  *bigSink
	stops chan func()
}

func (i stoppedImporter) BeginImport(_ context.Context, a Importing) (importing.Sink, int64, error) {
	i.stops <- a.Stop
	return i.sink, 0, nil
}

// TestImportNobodyReads: an import whose caller takes no answers ends when it is stopped for others' sake, too.
func TestImportNobodyReads(t *testing.T) {
	sink, stops := &bigSink{brokenSink{interrupted: make(chan struct{})}}, make(chan func(), 1)
	c := dial(t, serveAs(t, &Service{Importer: stoppedImporter{sink: sink, stops: stops}}, Allowed{GID: -1}))
	stream, err := c.q.Import(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	begin := &fleet.ImportBegin{Version: fleet.QueryVersion, Name: "old"}
	if err := stream.Send(&fleet.ImportRequest{What: &fleet.ImportRequest_Begin{Begin: begin}}); err != nil {
		t.Fatal(err)
	}
	(<-stops)()
	select {
	case <-sink.interrupted:
	case <-time.After(time.Minute):
		t.Error("it was not interrupted")
	}
}
