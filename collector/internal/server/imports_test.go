package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/pkg/importing"
	"github.com/auditfleet/auditfleet/pkg/oldlogs"
)

// TestImportTurns: a host's import makes way for an administrator's at once, and for another host's once it has had its turn; what it
// had read is stored. A host goes on with its own imports only, and has no more than some.
func TestImportTurns(t *testing.T) {
	t.Parallel()
	var cl clock
	cl.day(0)
	cfg := testConfig(shortDir(t))
	cfg.Now = cl.now
	r := start(t, cfg)
	i := r.openImports()
	ctx := t.Context()
	begin := func(host, name string) (importing.Sink, chan struct{}) {
		t.Helper()
		stopped := make(chan struct{}, 10)
		s, _, err := i.BeginImport(ctx, api.Importing{Name: name, Host: host, Stop: func() { stopped <- struct{}{} }})
		if err != nil {
			t.Fatalf("%s of %q: %v", name, host, err)
		}
		return s, stopped
	}
	end := func(s importing.Sink) {
		t.Helper()
		if _, err := s.Interrupt(ctx); err != nil {
			t.Error(err)
		}
	}
	// give reads a record of a file into an import.
	give := func(s importing.Sink, serial int) {
		t.Helper()
		text := fmt.Sprintf("type=USER_END msg=audit(1764000000.001:%d): pid=1\n", serial)
		at := oldlogs.Content{Size: int64(len(text)), Head: oldlogs.Sum{byte(serial)}}
		if err := errors.Join(s.File(ctx, importing.FileBegin{Node: "other"}), s.Chunk(ctx, []byte(text), at.Size, at), s.EndFile(ctx, at, true)); err != nil {
			t.Fatal(err)
		}
	}
	web1, stopped := begin("web1", "mine")
	give(web1, 1)
	go func() {
		<-stopped
		end(web1)
	}()
	boss, _ := begin("", "all")
	known, err := boss.Known(ctx)
	if err != nil || len(known) != 0 {
		t.Errorf("an administrator goes by what web1 says that it has brought: %+v, %v", known, err)
	}
	end(boss)

	web1, stopped = begin("web1", "mine")
	if known, err := web1.Known(ctx); err != nil || len(known) != 1 || known[0].Node != "web1" {
		t.Errorf("web1 knows %+v, %v", known, err)
	}
	impatient, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, _, err := i.BeginImport(impatient, api.Importing{Name: "its", Host: "web2"}); err == nil || len(stopped) > 0 {
		t.Errorf("web2, before web1's turn is over: %v, %d", err, len(stopped))
	}
	cl.ahead.Store(int64(turn + time.Second))
	go func() {
		<-stopped
		end(web1)
	}()
	web2, _ := begin("web2", "its")
	give(web2, 2)
	end(web2)

	if _, _, err := i.BeginImport(ctx, api.Importing{Name: "mine", Host: "web2"}); !errors.Is(err, api.ErrImport) {
		t.Errorf("web2 goes on with web1's import: %v", err)
	}
	list, err := i.ListImports(ctx, "web2")
	if err != nil || len(list) != 1 || list[0].Name != "its" || list[0].Host != "web2" {
		t.Errorf("web2 lists %+v, %v", list, err)
	}
	for n := 1; n < mostOfHost; n++ {
		s, _ := begin("web2", fmt.Sprint("its", n))
		give(s, 10+n)
		end(s)
	}
	if _, _, err := i.BeginImport(ctx, api.Importing{Name: "more", Host: "web2"}); !errors.Is(err, api.ErrImport) {
		t.Errorf("web2 has %d imports, and begins another one: %v", mostOfHost, err)
	}
	again, _ := begin("web2", "its")
	end(again)
}

// TestImportsByTurns: a host that had its turn has no other one before a host that waits, however many imports it begins.
func TestImportsByTurns(t *testing.T) {
	t.Parallel()
	i := start(t, testConfig(shortDir(t))).openImports()
	ctx := t.Context()
	first, _, err := i.BeginImport(ctx, api.Importing{Name: "first", Host: "web1"})
	if err != nil {
		t.Fatal(err)
	}
	const greedy = 20
	order := make(chan string, greedy+1)
	var all sync.WaitGroup
	begin := func(host, name string) {
		s, _, err := i.BeginImport(ctx, api.Importing{Name: name, Host: host})
		if err != nil {
			t.Error(err)
			return
		}
		order <- host
		if _, err := s.Interrupt(ctx); err != nil {
			t.Error(err)
		}
	}
	waiting := func(host string, want int) {
		for n := -1; n != want; time.Sleep(time.Millisecond) {
			i.mu.Lock()
			n = i.waiting[host]
			i.mu.Unlock()
		}
	}
	all.Go(func() { begin("web2", "two") })
	waiting("web2", 1)
	for n := range greedy { // the latest to wait are often the first to be woken
		all.Go(func() { begin("web1", fmt.Sprint("one", n)) })
	}
	waiting("web1", greedy)
	if _, err := first.Interrupt(ctx); err != nil {
		t.Fatal(err)
	}
	if host := <-order; host != "web2" {
		t.Errorf("%s is next", host)
	}
	all.Wait()
}

// TestImportReplays: what a killed collector had accepted becomes, beside an import, the events of the hosts that it would have made
// them of: a name that its sender may not use is not taken from the host that has it.
func TestImportReplays(t *testing.T) {
	t.Parallel()
	trust := filepath.Join(t.TempDir(), "trusted")
	if err := os.WriteFile(trust, []byte("web1 192.0.2.1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(shortDir(t))
	cfg.TrustedSenders, cfg.API = trust, shortDir(t)+".api"
	r := start(t, cfg)
	exchange(t, r.dial(), 1, userRecord("web1", 1))
	killed := t.TempDir()
	if err := os.CopyFS(killed, os.DirFS(cfg.Store)); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenImports(killed, false, nil, hclog.NewNullLogger()); !errors.Is(err, errReplay) {
		t.Fatalf("without its configuration: %v", err)
	}
	own := testConfig(killed)
	own.TrustedSenders = trust
	for _, of := range []*Config{&own, nil} { // by then nothing is to be replayed
		o, err := OpenImports(killed, false, of, hclog.NewNullLogger())
		if err != nil {
			t.Fatal(err)
		}
		for node, want := range map[string]int{"web1": 0, "127.0.0.1": 1} {
			if got := raws(t, o.head.Scan, node); len(got) != want {
				t.Errorf("%s has %q", node, got)
			}
		}
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	}
}
