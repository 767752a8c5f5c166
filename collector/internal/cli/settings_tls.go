package cli

import (
	"errors"
	"fmt"

	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/psktls"
	"github.com/auditfleet/auditfleet/pkg/settings"
)

// tls returns the section about who is known by which certificate.
func (o *options) tls() settings.Section {
	t := &o.server.TLS
	return settings.Section{Title: "Certificates", Doc: "The files are read again when they change.", List: []settings.Setting{
		{Key: conf.Path("tls_ca", &t.CA), Restart: true, Arg: "FILE", Example: "/etc/auditfleet/tls/ca.crt",
			Doc: "Certificates of the CAs whose peers are known, in PEM."},
		{Key: conf.Path("tls_cert", &t.Cert), Restart: true, Arg: "FILE", Example: "/etc/auditfleet/tls/collector.crt",
			Doc: "The collector's certificate, and those between it and its CA behind it."},
		{Key: conf.Path("tls_key", &t.Key), Restart: true, Arg: "FILE", Example: "/etc/auditfleet/tls/collector.key",
			Doc: "Its key, which only root may read."},
		{Key: conf.Path("tls_deny", &t.Deny), Restart: true, Arg: "FILE", Example: "/etc/auditfleet/tls/denied",
			Doc: "Names, serials and fingerprints of certificates that are refused, one a line.\nSessions of theirs are cut off within a second."},
		{Key: conf.Path("tls_crl", &t.CRL), Restart: true, Arg: "FILE", Example: "/etc/auditfleet/tls/ca.crl",
			Doc: "Revocation lists of the CAs, such as ca.crl of collector ca.\nOne that is overdue goes on revoking what it has, and is warned of; nobody else is refused for it."},
		{Key: conf.List("tls_senders", &t.Rules.Senders), Arg: "NAME[,NAME]", Example: "*.example.net",
			Doc: "Who may send: names, with * and ?; others may not.\nWithout it certificates say it, and one that names no role may send."},
		{Key: conf.List("tls_readers", &t.Rules.Readers), Arg: "NAME[,NAME]", Example: "auditor*.example.net",
			Doc: "Who may search and report, likewise; without it, certificates with that role."},
		{Key: conf.List("tls_admins", &t.Rules.Admins), Arg: "NAME[,NAME]", Example: "ops*.example.net",
			Doc: "Who may change hosts, likewise."},
		{Key: conf.Word("tls_spiffe_prefix", &t.Rules.SPIFFEPrefix), Restart: true, Arg: "PREFIX", Example: "spiffe://example.org/host/",
			Doc: "What stands before a host's name in a SPIFFE ID; other IDs are names as a whole."},
		{Key: conf.Path("enroll_ca", &o.server.EnrollCA), Restart: true, Arg: "FOLDER", Example: "/var/lib/auditfleet/ca",
			Doc: "Folder of a CA (collector ca init) of which hosts get certificates on the ports of grpc and listen_tls: with a token the first one\n(forwarder enroll), and another one before that expires.\nIt must have issued tls_cert.\nIts key is then on this machine.\n" +
				"An address may have one connection more on listen_tls than tcp_max_per_addr says, for renewals."},
	}}
}

// preShared returns the section with the stock keys for TLS with pre-shared keys.
func preShared(stock conf.Schema) settings.Section {
	key := func(name, arg, example, doc string) settings.Setting {
		return settings.Setting{Key: stock.Key(name), In: settings.FileOnly, Arg: arg, Example: example, Doc: doc}
	}
	transport := key("transport", "TRANSPORT", "", "How listen and tcp_listen_port receive: tcp is clear text, tls is TLS 1.3 with pre-shared keys, as senders of audit 4.2 speak it.")
	transport.Restart = true
	return settings.Section{Title: "Pre-shared keys", Doc: "Of audit 4.2, for transport = tls.\nWho shows that it has the key of an identity is the host of that name.\nSIGHUP has the files read again, and cuts off who is disabled.\nA key that is replaced counts for connections that begin then: who has the old one stays connected until its identity is disabled.", List: []settings.Setting{
		transport,
		key("tls_allowed_clients", "FILE", "/etc/audit/tls-clients", "Who may connect: lines IDENTITY enabled|disabled key=/FILE."),
		key("tls_psk_file", "FILE", "/etc/audit/tls.psk", "The key, one line of 64 hexadecimal digits or more, mode 0400, root's; of the one identity that tls_psk_identity or tls_allowed_clients names."),
		key("tls_psk_identity", "NAME", "web1", "Who has tls_psk_file's key, where there is no tls_allowed_clients."),
		key("tls_crypto_profile", "PROFILE", "pqc", "compatible takes X25519MLKEM768, then X25519; pqc takes key exchanges with ML-KEM only."),
		key("tls_cipher_suites", "NAME[:NAME]", "TLS_AES_128_GCM_SHA256", "Cipher suites, instead of the profile's."),
		key("tls_key_exchange", "NAME[:NAME]", "X25519MLKEM768", "Key exchanges, instead of the profile's."),
		key("tls_require_pqc", "yes|no", "", "The same as the profile pqc."),
		key("tls_auth", "psk", "psk", "How peers prove who they are; there is nothing else here: certificates are listen_tls's."),
	}}
}

// preSharedKeys has listen take TLS where the file says so. What is wrong is named with its line.
func (o *options) preSharedKeys(f *conf.File) error {
	if o.auditd.Transport != conf.TransportTLS {
		return nil
	}
	s := o.auditd.TLS
	o.server.PSK = &s
	var wrong *psktls.SettingError
	err := s.Check()
	if errors.As(err, &wrong) && f.Has(wrong.Key) {
		return fmt.Errorf("%s:%d: %w", f.Path, f.Line(wrong.Key), err)
	}
	return err
}
