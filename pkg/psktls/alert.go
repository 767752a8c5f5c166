package psktls

import "fmt"

// Alert is the number of a TLS alert (RFC 8446, section 6.2): why an end gave up. It is
// the error of a connection that either end ended so, wrapped in a LocalAlert or a PeerAlert.
type Alert uint8

// The alerts that this package sends. Others are taken from a peer and shown by name.
const (
	AlertCloseNotify         Alert = 0
	AlertUnexpectedMessage   Alert = 10
	AlertBadRecordMAC        Alert = 20
	AlertRecordOverflow      Alert = 22
	AlertHandshakeFailure    Alert = 40
	AlertIllegalParameter    Alert = 47
	AlertDecodeError         Alert = 50
	AlertDecryptError        Alert = 51
	AlertProtocolVersion     Alert = 70
	AlertInternalError       Alert = 80
	AlertUserCanceled        Alert = 90
	AlertMissingExtension    Alert = 109
	AlertUnsupportedExt      Alert = 110
	AlertUnknownPSKIdentity  Alert = 115
	AlertCertificateRequired Alert = 116
)

// alerts has the name that RFC 8446 gives an alert, and what it tells an administrator who
// gets it from the other end.
var alerts = map[Alert]struct{ name, means string }{
	AlertCloseNotify:         {"close_notify", "it has ended the connection"},
	AlertUnexpectedMessage:   {"unexpected_message", "it got a message that does not belong there: is it a TLS 1.3 server on that port?"},
	AlertBadRecordMAC:        {"bad_record_mac", "a record was changed on its way, or the two ends have different keys"},
	21:                       {"decryption_failed", "a record was changed on its way"},
	AlertRecordOverflow:      {"record_overflow", "a record was too long"},
	30:                       {"decompression_failure", "it speaks an old TLS: TLS 1.3 is needed"},
	AlertHandshakeFailure:    {"handshake_failure", "nothing both ends know: compare tls_key_exchange, tls_cipher_suites and tls_crypto_profile of both, and whether the other end has a pre-shared key at all"},
	41:                       {"no_certificate", "it wants a certificate; here there are pre-shared keys only"},
	42:                       {"bad_certificate", "it wants a certificate; here there are pre-shared keys only"},
	43:                       {"unsupported_certificate", "it wants a certificate; here there are pre-shared keys only"},
	44:                       {"certificate_revoked", "it wants a certificate; here there are pre-shared keys only"},
	45:                       {"certificate_expired", "it wants a certificate; here there are pre-shared keys only"},
	46:                       {"certificate_unknown", "it wants a certificate; here there are pre-shared keys only"},
	AlertIllegalParameter:    {"illegal_parameter", "it can't accept a value that was sent; a server with OpenSSL, such as audit 4.2's, says so of a wrong key: compare tls_psk_file of both ends"},
	48:                       {"unknown_ca", "it wants a certificate; here there are pre-shared keys only"},
	49:                       {"access_denied", "it does not let this peer in"},
	AlertDecodeError:         {"decode_error", "it could not read a message"},
	AlertDecryptError:        {"decrypt_error", "the identity is unknown or disabled there, or the key is another: compare tls_psk_identity and tls_psk_file here with tls_allowed_clients (or tls_psk_identity and tls_psk_file) there"},
	60:                       {"export_restriction", "it speaks an old TLS: TLS 1.3 is needed"},
	AlertProtocolVersion:     {"protocol_version", "it does not speak TLS 1.3"},
	71:                       {"insufficient_security", "it wants stronger algorithms: compare tls_cipher_suites of both ends"},
	AlertInternalError:       {"internal_error", "it failed for a reason of its own: see its log"},
	86:                       {"inappropriate_fallback", "it does not speak TLS 1.3"},
	AlertUserCanceled:        {"user_canceled", "it was told to stop"},
	100:                      {"no_renegotiation", "it speaks an old TLS: TLS 1.3 is needed"},
	AlertMissingExtension:    {"missing_extension", "the hello lacked something that it needs: is that a port for certificates (listen_tls or grpc of a collector), which takes --tls-cert and --tls-key?"},
	AlertUnsupportedExt:      {"unsupported_extension", "the hello had something that it does not take"},
	112:                      {"unrecognized_name", "it does not know the name it was called by"},
	113:                      {"bad_certificate_status_response", "it wants a certificate; here there are pre-shared keys only"},
	AlertUnknownPSKIdentity:  {"unknown_psk_identity", "the identity is unknown there: compare tls_psk_identity here with tls_allowed_clients or tls_psk_identity there"},
	AlertCertificateRequired: {"certificate_required", "it wants a certificate; here there are pre-shared keys only"},
	120:                      {"no_application_protocol", "it wants another protocol"},
}

// String is the name of the alert in RFC 8446, or alert(N).
func (a Alert) String() string {
	if known, ok := alerts[a]; ok {
		return known.name
	}
	return fmt.Sprintf("alert(%d)", uint8(a))
}

// A PeerAlert is the error of a connection that the peer ended with an alert.
type PeerAlert struct{ Alert Alert }

func (e *PeerAlert) Error() string {
	text := "tls: the other end sent " + e.Alert.String()
	if known, ok := alerts[e.Alert]; ok {
		text += ": " + known.means
	}
	return text
}

// A LocalAlert is the error of a connection that this end gave up, and told the peer so.
// Reason says for the log here what the alert does not say to the peer.
type LocalAlert struct {
	Alert  Alert
	Reason error
}

func (e *LocalAlert) Error() string {
	return "tls: " + e.Reason.Error() + " (sent " + e.Alert.String() + ")"
}

// Unwrap returns the reason: ErrUnknownIdentity, ErrWrongKey and so on.
func (e *LocalAlert) Unwrap() error { return e.Reason }

// refuse is the error for what the peer did wrong, with the alert that it is to get.
func refuse(alert Alert, format string, args ...any) error {
	return &LocalAlert{Alert: alert, Reason: fmt.Errorf(format, args...)}
}
