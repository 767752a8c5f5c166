package psktls

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// keyFile writes a key of one byte repeated, and returns its path.
func keyFile(t *testing.T, fill byte) string {
	t.Helper()
	return fileOf(t, hex.EncodeToString(bytes.Repeat([]byte{fill}, 32))+"\n", 0o400)
}

func fileOf(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestParseKey(t *testing.T) {
	good := strings.Repeat("5a", 32)
	for _, tt := range []struct{ text, want string }{
		{good, ""},
		{good + "\n", ""},
		{good + "\r\n", ""},
		{strings.ToUpper(good), ""},
		{good + "\nwhat follows is passed over\n", ""},
		{strings.TrimSuffix(strings.Repeat("5a:", 32), ":"), ""},
		{strings.Repeat("5a", 255), ""},
		{"", "the key has 0 bytes; at least 32"},
		{"\n" + good, "the key has 0 bytes; at least 32"},
		{good[2:], "31 bytes; at least 32"},
		{good + "a", "an odd number of hexadecimal digits, 65"},
		{" " + good, "character 1 of the first line is no hexadecimal digit"},
		{good + " ", "character 65"},
		{"0x" + good, "character 2"},
		{"5:a" + good, "character 2"},
		{good + "\x00", "character 65"},
		{strings.Repeat("5a", 256), "more than 255 bytes"},
		{strings.Repeat("5a", 5000), "more than 255 bytes"},
	} {
		key, err := parseKey([]byte(tt.text))
		switch {
		case tt.want == "" && (err != nil || len(key) < 32 || len(bytes.Trim(key, "\x5a")) > 0):
			t.Errorf("%.70q: %x %v", tt.text, key, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%.70q: %v, want %q", tt.text, err, tt.want)
		}
	}
}

func TestReadKeyRefusesWhatOthersMayTouch(t *testing.T) {
	good := strings.Repeat("5a", 32) + "\n"
	dir := t.TempDir()
	link, fifo := filepath.Join(dir, "link"), filepath.Join(dir, "fifo")
	if err := os.Symlink(keyFile(t, 1), link); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(fifo, 0o400); err != nil {
		t.Fatal(err)
	}
	foreign := keyFile(t, 2)
	if os.Geteuid() == 0 {
		if err := os.Chown(foreign, 65534, 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct{ path, want string }{
		{fileOf(t, good, 0o400), ""},
		{fileOf(t, good, 0o600), "its mode is 0600, not 0400"},
		{fileOf(t, good, 0o440), "its mode is 0440, not 0400"},
		{fileOf(t, good, 0o400|os.ModeSetuid), "its mode is 04400, not 0400"},
		{fileOf(t, "", 0o400), "the file is empty: make one with"},
		{fileOf(t, strings.Repeat("5a", 600), 0o400), "more than 255 bytes"},
		{link, "a symbolic link"},
		{fifo, "not a regular file"},
		{dir, "not a regular file"},
		{filepath.Join(dir, "none"), "no such file"},
		{foreign, "its owner is uid 65534"},
	} {
		if tt.path == foreign && os.Geteuid() != 0 {
			continue
		}
		_, err := ReadKey(tt.path)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", tt.path, err)
		case tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.path+": ") || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v, want %q", tt.path, err, tt.want)
		case err != nil && strings.Contains(err.Error(), "5a5a"):
			t.Errorf("the error shows the key: %v", err)
		}
	}
}

func TestCheckIdentity(t *testing.T) {
	for _, good := range []string{"a", "!", "~", "host-1.example", "#x", strings.Repeat("i", 255)} {
		if err := CheckIdentity(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for bad, want := range map[string]string{
		"": "is empty", "a b": "byte 2", "\x7f": "0x7f", "h\xc3\xb6st": "byte 2", "a\x00": "0x00", strings.Repeat("i", 256): "256 bytes long",
	} {
		if err := CheckIdentity(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", bad, err, want)
		}
	}
}

func TestAllowed(t *testing.T) {
	shared := bytes.Repeat([]byte{7}, 32)
	readKey := func(path string) ([]byte, error) {
		switch {
		case strings.HasSuffix(path, "gone"):
			return nil, &FileError{path, 0, fs.ErrNotExist}
		case strings.HasSuffix(path, "same"):
			return bytes.Repeat([]byte{1}, 32), nil
		}
		return bytes.Repeat([]byte(path[len(path)-1:]), 32), nil
	}
	for _, tt := range []struct {
		text, want string
		shared     []byte
		enabled    int
	}{
		{"# who\n\n  \t\nhost-1 enabled prod web host\nhost-2\tDisabled\n", "", shared, 1},
		{"host-1 enabled", "", shared, 1},
		{"host-1 enabled\r\nhost-2 disabled\r\n", "", shared, 1},
		{"", "", shared, 0},
		{"a enabled key=/k/a\nb ENABLED key=/k/b\nc disabled key=/k/c\n", "", nil, 2},
		{"a enabled key=/k/a\nc disabled key=/k/gone\n", "", shared, 1},
		{" # no comment\n", "F:1: after the identity # stands \"no\"", shared, 0},
		{"a enabled\nb enabled\n", "F: 2 identities are enabled and share the key", shared, 0},
		{"a enabled\n", "F: its entries have no key=, and there is no tls_psk_file", nil, 0},
		{"a\n", "F:1: after the identity a stands neither", shared, 0},
		{"\na on\n", "F:2: after the identity a stands \"on\"", shared, 0},
		{"a enabled\na disabled\n", "F:2: the identity a stands in line 1 already", shared, 0},
		{"a enabled key=k\n", "F:1: key=\"k\" is no absolute path", shared, 0},
		{"a enabled key=/k/a note\n", "F:1: after key=/k/a stands \"note\"", nil, 0},
		{"a enabled key=/k/a\nb enabled key=/k/a\n", "F:2: the key file /k/a is that of line 1", nil, 0},
		{"a enabled key=/1/same\nb disabled key=/2/same\n", "F: b in line 2 has the same key as a in line 1", nil, 0},
		{"a enabled key=/k/a\nb disabled\n", "F: b in line 2 has no key=", shared, 0},
		{"a enabled key=/k/gone\n", "F:1: /k/gone: file does not exist", nil, 0},
		{"h\xc3\xb6st enabled\n", "F:1: byte 2 of the identity", shared, 0},
		{strings.Repeat("x", 256) + " enabled\n", "F:1: the identity is 256 bytes long", shared, 0},
		{"a enabled " + strings.Repeat("n", 600) + "\n", "F:1: the line is longer than 510 characters", shared, 0},
	} {
		a, err := parseAllowed("F", strings.NewReader(tt.text), tt.shared, readKey)
		switch {
		case tt.want == "" && (err != nil || a.Count() != tt.enabled):
			t.Errorf("%.60q: %+v %v", tt.text, a, err)
		case tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.want)):
			t.Errorf("%.60q: %v, want %q", tt.text, err, tt.want)
		}
	}
	a, err := parseAllowed("F", strings.NewReader("a enabled key=/k/a\nc disabled key=/k/c\n"), nil, readKey)
	if err != nil {
		t.Fatal(err)
	}
	if key, err := a.Lookup("a"); err != nil || !bytes.Equal(key, bytes.Repeat([]byte("a"), 32)) || !a.Enabled("a") {
		t.Errorf("a: %x %v", key, err)
	}
	if _, err := a.Lookup("c"); !errors.Is(err, ErrDisabledIdentity) || a.Enabled("c") {
		t.Errorf("c: %v", err)
	}
	if _, err := a.Lookup("d"); !errors.Is(err, ErrUnknownIdentity) || a.Enabled("d") {
		t.Errorf("d: %v", err)
	}
}

func TestLoadAllowedRefusesWhatOthersMayWrite(t *testing.T) {
	key := keyFile(t, 3)
	good := "host-1 enabled key=" + key + "\n"
	a, err := LoadAllowed(fileOf(t, good, 0o644), nil)
	if err != nil || a.Count() != 1 {
		t.Fatal(a, err)
	}
	for _, mode := range []os.FileMode{0o664, 0o646} {
		path := fileOf(t, good, mode)
		if _, err := LoadAllowed(path, nil); err == nil || !strings.Contains(err.Error(), path+": its mode is 06") || !strings.Contains(err.Error(), "chmod go-w") {
			t.Errorf("%o: %v", mode, err)
		}
	}
	if err := os.Chmod(key, 0o444); err != nil {
		t.Fatal(err)
	}
	path := fileOf(t, good, 0o600)
	if _, err := LoadAllowed(path, nil); err == nil || !strings.HasPrefix(err.Error(), path+":1: "+key+": its mode is 0444") {
		t.Errorf("a key that others may read: %v", err)
	}
}

func TestSettings(t *testing.T) {
	key, list := keyFile(t, 4), fileOf(t, "host-1 enabled\n", 0o600)
	base := Settings{PSKFile: key, PSKIdentity: "host-1"}
	with := func(change func(*Settings)) Settings {
		s := base
		change(&s)
		return s
	}
	for _, tt := range []struct {
		name     string
		settings Settings
		want     string
	}{
		{"tls_auth", with(func(s *Settings) { s.Auth = "cert" }), "tls_auth: \"cert\" is unknown"},
		{"profile", with(func(s *Settings) { s.CryptoProfile = "strong" }), "tls_crypto_profile: \"strong\" is unknown"},
		{"contradiction", with(func(s *Settings) { s.CryptoProfile, s.RequirePQC = "compatible", true }), "tls_require_pqc: yes contradicts"},
		{"relative", with(func(s *Settings) { s.PSKFile = "audit.psk" }), "tls_psk_file: \"audit.psk\" is no absolute path"},
		{"relative list", with(func(s *Settings) { s.AllowedClients = "clients" }), "tls_allowed_clients: \"clients\" is no absolute path"},
		{"identity", with(func(s *Settings) { s.PSKIdentity = "a b" }), "tls_psk_identity: byte 2"},
		{"suite", with(func(s *Settings) { s.CipherSuites = "AES128-SHA" }), "tls_cipher_suites: \"AES128-SHA\" is no cipher suite of TLS 1.3"},
		{"suite, case", with(func(s *Settings) { s.CipherSuites = "tls_aes_128_gcm_sha256" }), "tls_cipher_suites: "},
		{"CCM alone", with(func(s *Settings) { s.CipherSuites = "TLS_AES_128_CCM_SHA256" }), "tls_cipher_suites: this program does not have TLS_AES_128_CCM_SHA256"},
		{"group", with(func(s *Settings) { s.KeyExchange = "X25519:ffdhe2048" }), "tls_key_exchange: \"ffdhe2048\" is no group"},
		{"no group", with(func(s *Settings) { s.KeyExchange = "?ffdhe2048" }), "tls_key_exchange: it names no group"},
		{"empty name", with(func(s *Settings) { s.KeyExchange = "X25519:" }), "tls_key_exchange: \"\" is no group"},
		{"pqc without", with(func(s *Settings) { s.CryptoProfile, s.KeyExchange = "pqc", "X25519" }), "tls_key_exchange: none of X25519 is post-quantum"},
	} {
		err := tt.settings.Check()
		var bad *SettingError
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) || !errors.As(err, &bad) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	for _, tt := range []struct {
		name   string
		change func(*Settings)
		suites []Suite
		groups []Group
		pqc    bool
	}{
		{"nothing", func(*Settings) {}, DefaultSuites(), CompatibleGroups(), false},
		{"compatible", func(s *Settings) { s.CryptoProfile, s.Auth = "Compatible", "PSK" }, DefaultSuites(), CompatibleGroups(), false},
		{"pqc", func(s *Settings) { s.CryptoProfile = "PQC" }, DefaultSuites(), PQCGroups(), true},
		{"require", func(s *Settings) { s.RequirePQC = true }, DefaultSuites(), PQCGroups(), true},
		{"both", func(s *Settings) { s.CryptoProfile, s.RequirePQC = "pqc", true }, DefaultSuites(), PQCGroups(), true},
		{"system", func(s *Settings) { s.CryptoProfile = "System" }, DefaultSuites(),
			[]Group{X25519MLKEM768, X25519, P256, P384, P521, SecP256r1MLKEM768, SecP384r1MLKEM1024}, false},
		{"suites", func(s *Settings) {
			s.CipherSuites = "TLS_AES_256_GCM_SHA384:TLS_AES_128_CCM_SHA256:TLS_AES_128_GCM_SHA256:TLS_AES_128_GCM_SHA256"
		}, []Suite{AES256GCM, AES128GCM}, CompatibleGroups(), false},
		{"groups", func(s *Settings) { s.KeyExchange = "x25519mlkem768:secp256r1:?nonsense:prime256v1:MLKEM1024" },
			DefaultSuites(), []Group{X25519MLKEM768, P256, MLKEM1024}, false},
	} {
		config, err := with(tt.change).Client()
		if err != nil || !slices.Equal(config.Suites, tt.suites) || !slices.Equal(config.Groups, tt.groups) || config.RequirePQC != tt.pqc || len(config.Key) != 32 {
			t.Errorf("%s: %+v %v", tt.name, config, err)
		}
	}
	for _, tt := range []struct {
		name     string
		settings Settings
		want     string
	}{
		{"no key", Settings{PSKIdentity: "a"}, "tls_psk_file: it is needed"},
		{"no identity", Settings{PSKFile: key}, "tls_psk_identity: it is needed"},
		{"no file", Settings{PSKFile: "/none/such", PSKIdentity: "a"}, "tls_psk_file: /none/such: no such file"},
	} {
		if _, err := tt.settings.Client(); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("client, %s: %v, want %q", tt.name, err, tt.want)
		}
	}
	for _, tt := range []struct {
		name     string
		settings Settings
		want     string
	}{
		{"nothing", Settings{}, "tls_allowed_clients: it or tls_psk_file is needed"},
		{"no identity", Settings{PSKFile: key}, "tls_psk_identity: it or tls_allowed_clients is needed"},
		{"no shared key", Settings{AllowedClients: list}, "tls_allowed_clients: " + list + ": its entries have no key="},
		{"no list", Settings{AllowedClients: "/none/such"}, "tls_allowed_clients: /none/such: no such file"},
	} {
		if _, _, err := tt.settings.Server(); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("server, %s: %v, want %q", tt.name, err, tt.want)
		}
	}
	for _, s := range []Settings{base, {PSKFile: key, AllowedClients: list, PSKIdentity: "somebody-else"}} {
		config, allowed, err := s.Server()
		if err != nil || (allowed != nil) != (s.AllowedClients != "") {
			t.Fatal(allowed, err)
		}
		if key, err := config.Lookup("host-1"); err != nil || len(key) != 32 {
			t.Errorf("%x %v", key, err)
		}
		if _, err := config.Lookup("somebody-else"); !errors.Is(err, ErrUnknownIdentity) {
			t.Errorf("%v", err)
		}
	}
}

// A key that stands where its file, or a word, is expected is quoted in no message.
func TestKeyInTheWrongPlace(t *testing.T) {
	key := strings.Repeat("0123456789abcdef", 4)
	colons := strings.TrimSuffix(strings.Repeat("ab:", 32), ":")
	for _, secret := range []string{key, strings.ToUpper(key), colons} {
		for _, text := range []string{"web1 " + secret, "web1 enabled key=" + secret, "web1 enabled key=/k " + secret} {
			_, err := parseAllowed("F", strings.NewReader(text+"\n"), nil, func(string) ([]byte, error) { return make([]byte, MinKey), nil })
			if err == nil || strings.Contains(err.Error(), secret[:8]) {
				t.Errorf("%v", err)
			}
		}
		for _, s := range []Settings{{PSKFile: secret}, {AllowedClients: secret}} {
			if err := s.Check(); err == nil || strings.Contains(err.Error(), secret[:8]) {
				t.Errorf("%v", err)
			}
		}
	}
	if !strings.Contains(shown("/etc/audit/keys/0123456789abcdef0123456789abcdef"), "/keys/") || !strings.Contains(shown("etc/psk/web1.key"), "web1") {
		t.Error("a path is not shown")
	}
}
