package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
)

// auditd.conf as a ConfigMap or NixOS has it: a link to ..data/auditd.conf, and ..data
// one to a folder. Stock's auditd refuses it without -l, and follows it with -l.
func TestLinkedConfig(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "..2026"), 0o700); err != nil {
		t.Fatal(err)
	}
	text := "log_file = " + dir + "/log/audit.log\nplugin_dir = " + dir + "\nqueue_full_action = wait\n"
	if err := os.WriteFile(filepath.Join(dir, "..2026", "auditd.conf"), []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"..data": "..2026", "auditd.conf": "..data/auditd.conf"} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name   string
		refuse bool // as auditd without -l
		want   string
	}{{"run --config, auditd -l", false, ""}, {"auditd", true, "give -l"}} {
		t.Run(c.name, func(t *testing.T) {
			o := newRunFlags()
			o.config, o.refuseLinks = filepath.Join(dir, "auditd.conf"), c.refuse
			cfg, err := o.resolve(t.Context(), givenAs("config"), hclog.NewNullLogger())
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want == "":
				if want := (kernel.Full{When: kernel.FullWait, Key: "queue_full_action"}); cfg.Kernel.Full != want {
					t.Errorf("%+v", cfg.Kernel.Full)
				}
			case err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "auditd.conf: is a symbolic link"):
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// What a full queue means is read again with the other keys.
func TestQueueFullIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	o := newRunFlags()
	o.allowHalt = true
	o.config = filepath.Join(dir, "auditd.conf")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(o.config, []byte("log_file = "+dir+"/log/audit.log\n"+text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	cfg, err := o.resolve(t.Context(), givenAs("config"), hclog.NewNullLogger())
	if err != nil || cfg.Kernel.Full.When != kernel.FullAuto {
		t.Fatal(cfg.Kernel.Full, err)
	}
	for _, c := range []struct {
		text string
		want kernel.Full
	}{
		{"overflow_action = halt\n", kernel.Full{When: kernel.FullWait, Key: "overflow_action"}},
		{"overflow_action = halt\nqueue_full_action = drop\n", kernel.Full{When: kernel.FullDrop, Key: "queue_full_action"}},
		{"queue_full_action = wait\n", kernel.Full{When: kernel.FullWait, Key: "queue_full_action"}},
		{"queue_full_action = auto\n", kernel.Full{When: kernel.FullAuto, Key: "queue_full_action"}},
	} {
		write(c.text)
		if next, err := cfg.Reload(t.Context()); err != nil || next.Full != c.want {
			t.Errorf("%q: %+v, %v, want %+v", c.text, next.Full, err, c.want)
		}
	}
}
