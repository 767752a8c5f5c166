package psktls

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Settings are the words of audit 4.2's audisp-remote.conf(5) and auditd.conf(5), each as it
// stands in the file; empty is not set. Cases of letters do not count in Auth, CryptoProfile
// and KeyExchange.
type Settings struct {
	Auth           string // tls_auth: psk
	CryptoProfile  string // tls_crypto_profile: compatible, system or pqc
	PSKFile        string // tls_psk_file
	PSKIdentity    string // tls_psk_identity
	AllowedClients string // tls_allowed_clients, of servers
	CipherSuites   string // tls_cipher_suites: names with colons between
	KeyExchange    string // tls_key_exchange: names with colons between
	RequirePQC     bool   // tls_require_pqc = yes, the same as the profile pqc
}

// A SettingError says which setting is wrong, for one who knows its line.
type SettingError struct {
	Key string
	Err error
}

func (e *SettingError) Error() string { return e.Key + ": " + e.Err.Error() }

// Unwrap returns what is wrong with it.
func (e *SettingError) Unwrap() error { return e.Err }

func setting(key, format string, args ...any) error {
	return &SettingError{key, fmt.Errorf(format, args...)}
}

// Check looks at the words alone; it opens no file.
func (s Settings) Check() error {
	_, err := s.config()
	return err
}

// Client makes the configuration of a sender, with its key from the file.
func (s Settings) Client() (*Config, error) {
	config, err := s.config()
	if err != nil {
		return nil, err
	}
	if s.PSKFile == "" {
		return nil, setting("tls_psk_file", "it is needed for TLS with pre-shared keys, and not set: name the file with this host's key")
	}
	if s.PSKIdentity == "" {
		return nil, setting("tls_psk_identity", "it is needed with tls_psk_file, and not set: name this host as the server's tls_allowed_clients does")
	}
	config.Identity = s.PSKIdentity
	if config.Key, err = ReadKey(s.PSKFile); err != nil {
		return nil, &SettingError{"tls_psk_file", err}
	}
	return config, nil
}

// Server makes the configuration of a server, with all keys from their files. Where
// tls_allowed_clients is set it alone says who may connect, and is returned, too.
func (s Settings) Server() (*Config, *Allowed, error) {
	config, err := s.config()
	if err != nil {
		return nil, nil, err
	}
	switch {
	case s.PSKFile == "" && s.AllowedClients == "":
		return nil, nil, setting("tls_allowed_clients", "it or tls_psk_file is needed for TLS with pre-shared keys, and neither is set")
	case s.PSKIdentity == "" && s.AllowedClients == "":
		return nil, nil, setting("tls_psk_identity", "it or tls_allowed_clients is needed with tls_psk_file, and neither is set: name who may connect")
	}
	var shared []byte
	if s.PSKFile != "" {
		if shared, err = ReadKey(s.PSKFile); err != nil {
			return nil, nil, &SettingError{"tls_psk_file", err}
		}
	}
	if s.AllowedClients != "" {
		allowed, err := LoadAllowed(s.AllowedClients, shared)
		if err != nil {
			return nil, nil, &SettingError{"tls_allowed_clients", err}
		}
		config.Lookup = allowed.Lookup
		return config, allowed, nil
	}
	config.Lookup = func(identity string) ([]byte, error) {
		if identity != s.PSKIdentity {
			return nil, ErrUnknownIdentity
		}
		return shared, nil
	}
	return config, nil, nil
}

// config is what client and server have in common.
func (s Settings) config() (*Config, error) {
	if s.Auth != "" && !strings.EqualFold(s.Auth, "psk") {
		return nil, setting("tls_auth", "%q is unknown: only psk is there", s.Auth)
	}
	for _, path := range []struct{ key, value string }{{"tls_psk_file", s.PSKFile}, {"tls_allowed_clients", s.AllowedClients}} {
		if path.value != "" && !strings.HasPrefix(path.value, "/") {
			return nil, setting(path.key, "%s is no absolute path: begin it with /", shown(path.value))
		}
	}
	if s.PSKIdentity != "" {
		if err := CheckIdentity(s.PSKIdentity); err != nil {
			return nil, &SettingError{"tls_psk_identity", err}
		}
	}
	config := &Config{}
	if err := s.profile(config); err != nil {
		return nil, err
	}
	var err error
	if s.CipherSuites != "" {
		if config.Suites, err = ParseSuites(s.CipherSuites); err != nil {
			return nil, &SettingError{"tls_cipher_suites", err}
		}
	}
	if s.KeyExchange != "" {
		if config.Groups, err = ParseGroups(s.KeyExchange); err != nil {
			return nil, &SettingError{"tls_key_exchange", err}
		}
	}
	if config.RequirePQC && !slices.ContainsFunc(config.Groups, Group.PostQuantum) {
		return nil, setting("tls_key_exchange", "none of %s is post-quantum, which tls_crypto_profile = pqc asks for: add X25519MLKEM768, or leave tls_key_exchange out", s.KeyExchange)
	}
	return config, nil
}

// profile sets suites and groups as the profile has them. There is no policy of the system
// that this program would follow: system is all that it has, as OpenSSL offers all it has.
func (s Settings) profile(config *Config) error {
	config.Suites = DefaultSuites()
	switch name := strings.ToLower(s.CryptoProfile); {
	case name == "pqc", name == "" && s.RequirePQC:
		config.Groups, config.RequirePQC = PQCGroups(), true
	case s.RequirePQC:
		return setting("tls_require_pqc", "yes contradicts tls_crypto_profile = %s: set that to pqc, and leave tls_require_pqc out", s.CryptoProfile)
	case name == "", name == "compatible":
		config.Groups = CompatibleGroups()
	case name == "system":
		config.Groups = []Group{X25519MLKEM768, X25519, P256, P384, P521, SecP256r1MLKEM768, SecP384r1MLKEM1024}
	default:
		return setting("tls_crypto_profile", "%q is unknown: compatible, system and pqc are there", s.CryptoProfile)
	}
	return nil
}

// ParseSuites reads a list of tls_cipher_suites. Suites of TLS 1.3 that this program does not
// have (those with CCM) are left out, as long as another is there.
func ParseSuites(list string) ([]Suite, error) {
	var found []Suite
	missing := ""
	for _, name := range strings.Split(list, ":") {
		at := slices.IndexFunc(suites, func(a algorithms) bool { return a.name == name })
		switch {
		case at >= 0 && !slices.Contains(found, suites[at].suite):
			found = append(found, suites[at].suite)
		case at >= 0:
		case name == "TLS_AES_128_CCM_SHA256" || name == "TLS_AES_128_CCM_8_SHA256":
			missing = name
		default:
			return nil, fmt.Errorf("%q is no cipher suite of TLS 1.3: there are %s, with colons between", name, names(suites, func(a algorithms) string { return a.name }))
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("this program does not have %s: it has %s", missing, names(suites, func(a algorithms) string { return a.name }))
	}
	return found, nil
}

// ParseGroups reads a list of tls_key_exchange. A name that begins with a question mark is
// left out where it is unknown, as in OpenSSL 3.3 and later.
func ParseGroups(list string) ([]Group, error) {
	var found []Group
	for _, name := range strings.Split(list, ":") {
		bare := strings.TrimPrefix(name, "?")
		group, ok := groupByName(bare)
		switch {
		case ok && !slices.Contains(found, group):
			found = append(found, group)
		case ok, bare != name && bare != "":
		default:
			return nil, fmt.Errorf("%q is no group that this program has: it has %s, with colons between", name, names(exchanges, func(x exchange) string { return x.name }))
		}
	}
	if len(found) == 0 {
		return nil, errors.New("it names no group that this program has")
	}
	return found, nil
}

func names[T any](list []T, name func(T) string) string {
	var all []string
	for _, one := range list {
		all = append(all, name(one))
	}
	return strings.Join(all, ", ")
}
