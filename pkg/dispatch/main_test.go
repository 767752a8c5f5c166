package dispatch

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/conf"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "--fake-plugin" {
		os.Exit(fakePlugin(os.Args[2:]))
	}
	need.Parallel(8) // they wait for plugins to end
	goleak.VerifyTestMain(m)
}

// fakePlugin is a plugin as told by its arguments.
func fakePlugin(args []string) int {
	switch args[0] {
	case "cat": // FILE: copies records, notes HUP and TERM in FILE.signals
		sig := make(chan os.Signal, 8)
		signal.Notify(sig, unix.SIGHUP, unix.SIGTERM)
		go func() {
			for s := range sig {
				appendTo(args[1]+".signals", s.String()+"\n")
			}
		}()
		appendTo(args[1]+".started", fmt.Sprintln(strings.Join(os.Environ(), " ")))
		for buf := make([]byte, 4096); ; {
			n, err := os.Stdin.Read(buf)
			appendTo(args[1], string(buf[:n]))
			if err != nil {
				return 0
			}
		}
	case "hang": // [FILE]: reads nothing and does not end when told, of which FILE.hangs says that it is so
		signal.Ignore(unix.SIGTERM)
		if len(args) > 1 {
			appendTo(args[1]+".hangs", "yes")
		}
		time.Sleep(time.Hour)
	case "bites": // FILE N: reads N bytes, hands them on and dies
		n, _ := strconv.Atoi(args[2])
		for b := make([]byte, 1); n > 0; n-- {
			if m, _ := os.Stdin.Read(b); m == 0 {
				return 0
			}
			appendTo(args[1], string(b))
		}
		return 7
	}
	return 1
}

func appendTo(path, text string) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		panic(err)
	}
}

// fake is a plugin of this test's program.
func fake(t testing.TB, name string, args ...string) conf.Plugin {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return conf.Plugin{Name: name, Active: true, Direction: "out", Path: self, Type: conf.PluginAlways, Format: conf.FormatString, Args: append([]string{"--fake-plugin"}, args...)}
}

func start(t testing.TB, cfg Config) (*Dispatcher, *need.Buffer) {
	t.Helper()
	said := &need.Buffer{}
	cfg.Logger = hclog.New(&hclog.LoggerOptions{Output: said, Level: hclog.Debug})
	if cfg.Overflow == "" {
		cfg.Overflow = conf.DoSyslog
	}
	if cfg.Depth == 0 {
		cfg.Depth = 2000
	} else if cfg.Slack == 0 {
		cfg.Slack = 1
	}
	d, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(said.String())
		}
	})
	return d, said
}

func line(i int) string {
	return fmt.Sprintf(`type=SYSCALL msg=audit(1700000000.%03d:%d): arch=c000003e syscall=110 pid=%d comm="x" key="k"`, i%1000, i, i)
}

func lines(from, n int) string {
	var b strings.Builder
	for i := from; i < from+n; i++ {
		b.WriteString(line(i) + "\n")
	}
	return b.String()
}

// put hands over records from to from+n in batches of up to ten.
func put(d *Dispatcher, from, n int) {
	for i := from; i < from+n; {
		b := NewBatch(0, 0)
		for ; i < from+n && b.Len() < 10; i++ {
			b.Add(1300, []byte(line(i)))
		}
		d.Put(b)
	}
}

func content(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(b)
}

var wait = need.Wait
