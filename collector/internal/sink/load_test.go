package sink

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is wrong in a sink's file is said with file, line and what to do, without what must
// not be seen; the other sinks are there all the same.
func TestWrongFiles(t *testing.T) {
	good := "type = syslog\n"
	for text, want := range map[string]string{
		"typ = mail\n":   "x.conf:1: unknown keyword \"typ\"",
		"active = yes\n": "type: is missing",
		"type = webhook\nurl = ftp://x/\nsecret_file = /s\n":               "x.conf:2: url: want http://",
		"type = webhook\nurl = https://u:hunter2@h/\nsecret_file = /s\n":   "x.conf:2: url: has a user or password in it",
		"type = webhook\nurl = https://h/\n":                               "secret_file: is missing",
		"type = alertmanager\nurl = http://h/\ntoken_file = /t\n":          "x.conf:2: url: is in clear text",
		"type = alertmanager\nurl = http://localhost:9093/api/v2/alerts\n": "want the Alertmanager's address alone",
		"type = alertmanager\nurl = http://h/\nprogram = /bin/true\n":      "x.conf:3: program: has no meaning for type = alertmanager",
		"type = mail\nserver = h:25\ntls = no\nfrom = a@b\nto = c@d\n":     "leaves this machine with TLS only",
		"type = mail\nserver = h:25\nfrom = a@b\nto = c@d, Bcc:\n":         "is no mail address",
		"type = mail\nserver = h\nfrom = a@b\nto = c@d\nuser = x\n":        "user and password_file belong together",
		"type = exec\nprogram = /nowhere/at/all\n":                         "x.conf:2: program:",
		"type = syslog\nfacility = loud\n":                                 "is no facility",
		"type = syslog\nmatch = web*\n":                                    "want LABEL=PATTERN",
		"type = syslog\nmatch = hots=web*\n":                               "no alert has the label hots",
		"type = syslog\nconditions = [a\n":                                 "is no pattern",
		"type = syslog\nconditions = los\n":                                "did you mean loss?",
		"type = syslog\nsocket = /s\nserver = h:1\n":                       "give either server or socket",
	} {
		cfg := load(t, t.TempDir(), map[string]string{"x": text, "y": good})
		if cfg.Problem == nil || !strings.Contains(cfg.Problem.Error(), want) || strings.Contains(cfg.Problem.Error(), "hunter2") {
			t.Errorf("%q: %v, want %s", text, cfg.Problem, want)
		}
		if len(cfg.Sinks) != 2 || cfg.Sinks[1].wrong != nil {
			t.Errorf("%q: %d sinks", text, len(cfg.Sinks))
		}
	}
	if cfg := Load("/nowhere/at/all", names); cfg.Problem == nil {
		t.Error("a folder that is not there is no problem")
	}
	if cfg := load(t, t.TempDir(), map[string]string{"off": "active = no\n" + good, "on": good}); cfg.Problem != nil || len(cfg.Sinks) != 1 {
		t.Errorf("%+v", cfg)
	}
}

// Who asks whether all is right hears of secrets and certificates that no delivery could use, and of no secret itself.
func TestCheckFiles(t *testing.T) {
	dir := t.TempDir()
	at := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	hook := "type = webhook\nurl = https://h/\nsecret_file = "
	for file, want := range map[string]string{
		hook + at("good", strings.Repeat("s", 32), 0o600):                                               "",
		hook + filepath.Join(dir, "none"):                                                               "the sink x: read a secret: ",
		hook + at("seen", strings.Repeat("hunter2", 9), 0o644):                                          "others may read the secret",
		hook + at("short", "hunter2", 0o600):                                                            "want 24 at least",
		"type = alertmanager\nurl = https://h/\ntoken_file = " + at("two", "hunter2\nhunter2\n", 0o600): "want one line",
		"type = alertmanager\nurl = https://h/\nca = " + at("ca", "none", 0o600):                        "has no certificate",
	} {
		cfg := load(t, t.TempDir(), map[string]string{"x": file + "\n"})
		err := cfg.CheckFiles()
		if cfg.Problem != nil || (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("%q: %v, %v, want %q", file, cfg.Problem, err, want)
		}
	}
}

// A sink gets what its file says.
func TestTakes(t *testing.T) {
	for text, want := range map[string]bool{
		"":                                   true,
		"severity = critical\n":              true,
		"conditions = host-*, serial-gaps\n": false,
		"conditions = lo?s\n":                true,
		"match = host=web*\n":                true,
		"match = host=web*, cause=queue\n":   false,
		"match = host=db*\n":                 false,
		"resolved = no\n":                    true,
	} {
		cfg := load(t, t.TempDir(), map[string]string{"x": "type = syslog\n" + text})
		n := notice("web/1", Firing, 0)
		if cfg.Problem != nil || cfg.Sinks[0].takes(&n) != want {
			t.Errorf("%q: not %v (%v)", text, want, cfg.Problem)
		}
		over := notice("web1", Resolved, 0)
		if text == "resolved = no\n" && cfg.Sinks[0].takes(&over) {
			t.Error("it is said that it is over")
		}
	}
}

// A reload keeps what waits, also for a sink whose file is wrong meanwhile, and delivers it
// as the new file says.
func TestReload(t *testing.T) {
	t.Parallel()
	r, dir, files := newReceiver(t), t.TempDir(), t.TempDir()
	cfg := load(t, files, map[string]string{"x": "type = webhook\nurl = http://127.0.0.1:1/\nsecret_file = /nowhere\n", "y": "type = syslog\n"})
	s := open(t, cfg, dir)
	s.Deliver(one(notice("a", Firing, 0)))
	if err := s.Reload(load(t, files, map[string]string{"x": "type = nothing\n"})); err != nil {
		t.Fatal(err)
	}
	if st := s.Status()[0]; st.Kind != kindWebhook || st.Queued != 1 {
		t.Errorf("%+v", st)
	}
	if err := s.Reload(load(t, files, map[string]string{"x": webhookConf(t, r.URL)})); err != nil {
		t.Fatal(err)
	}
	r.wait(t, "firing a")
}

// A file that is wrong at a start costs nothing but time.
func TestWrongAtStart(t *testing.T) {
	t.Parallel()
	r, files := newReceiver(t), t.TempDir()
	s := Open(load(t, files, map[string]string{"x": "type = nothing\n"}), Options{Dir: t.TempDir()})
	defer s.Close()
	s.Deliver(one(notice("a", Firing, 0)))
	if err := s.Reload(load(t, files, map[string]string{"x": webhookConf(t, r.URL)})); err != nil {
		t.Fatal(err)
	}
	r.wait(t, "firing a")
}
