package cli

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/agent"
	"github.com/auditfleet/auditfleet/forwarder/internal/spool"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/spf13/pflag"
)

// readOptionsOf parses a command line with a file of options.
func readOptionsOf(t *testing.T, file string, args ...string) (*runFlags, error) {
	t.Helper()
	flags := pflag.NewFlagSet("run", pflag.ContinueOnError)
	o := newRunFlags()
	o.table().AddFlags(flags)
	if err := flags.Parse(append(args, "--options", file)); err != nil {
		t.Fatal(err)
	}
	return o, o.readOptions(flags)
}

func optionsFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "options.conf")
	if err := os.WriteFile(file, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	return file
}

// Every flag of run is a key of the file, the command line goes before it, and what is
// wrong is said with file and line.
func TestOptionsFile(t *testing.T) {
	o, err := readOptionsOf(t, optionsFile(t, "# a comment\nSpool_Full = drop-oldest\nremote=a:60\nallow_halt = yes\ndrain-timeout = 3s\n"), "--source=stdin", "--remote", "b:60")
	if err != nil {
		t.Fatal(err)
	}
	if o.spoolFull != spoolDropOldest || o.remote != "b:60" || o.source != agent.SourceStdin {
		t.Errorf("%+v", o)
	}
	if w := fmt.Sprint(o.optionsFile.Warnings); !strings.Contains(w, ":3: remote: has no effect") {
		t.Errorf("warnings: %s", w)
	}
	for text, want := range map[string]string{
		"spool_ful = refuse\n":             `options.conf:1: unknown keyword "spool_ful" (did you mean spool_full?)`,
		"\nwindow = many\n":                "options.conf:2: window: ",
		"options = /etc/other\n":           "options.conf:1: unknown keyword",
		"drain_timeout = 1s 2s\n":          "options.conf:1: drain_timeout: unexpected",
		"source = stdin\nallow_halt = x\n": "options.conf:2: allow_halt: ",
	} {
		if _, err := readOptionsOf(t, optionsFile(t, text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	var out, said bytes.Buffer
	file := optionsFile(t, "source = stdin\nremote = a\nspool_full = never\n")
	if code := Run(t.Context(), []string{"forwarder", "--options", file}, Stdio{Out: &out, Err: &said}, "v"); code != exitConfig || !strings.Contains(said.String(), file+":3: spool_full: ") {
		t.Errorf("exit %d: %s", code, said.String())
	}
	// The shipped example, as the shipped plugin's file names it.
	if o, err := readOptionsOf(t, "../../../deploy/auditfleet-plugin.conf"); err != nil || o.spoolFull != spoolRefuse || o.remoteConfig != remoteConf {
		t.Errorf("%+v, %v", o, err)
	}
}

// A plugin waits for the spool of the instance before it: signals that come meanwhile
// do not kill it, the one that ends it does so when it has taken in what it was fed.
func TestSignalsWhileStarting(t *testing.T) {
	dir := t.TempDir()
	sp, _, err := spool.Open(spool.Options{Dir: dir + "/spool"})
	if err != nil {
		t.Fatal(err)
	}
	defer sp.Close()
	cmd := exec.Command(copySelf(t, dir, "forwarder"), "--source=stdin", "--plugin", "--remote=127.0.0.1:1", "--spool="+dir+"/spool", "--report="+dir+"/report")
	var said need.Buffer
	cmd.Stderr = &said
	feed, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(feed, "type=USER msg=audit(1.000:1): x=1")
	waitFor(t, "it waits", func() bool { return strings.Contains(said.String(), "waiting for the spool") })
	for _, s := range []unix.Signal{unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2, unix.SIGCONT, unix.SIGTERM} {
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "it is told to end", func() bool { return strings.Contains(said.String(), "ending") })
	time.Sleep(100 * time.Millisecond)
	if err := sp.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, said.String())
	}
	if sp, _, err = spool.Open(spool.Options{Dir: dir + "/spool"}); err != nil {
		t.Fatal(err)
	}
	if n := sp.Left(); n != 1 {
		t.Errorf("%d records in the spool, want the one it was fed\n%s", n, said.String())
	}
}
