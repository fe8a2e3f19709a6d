package config

import "testing"

// Who may connect follows from the keys together.
func TestWhoMayConnect(t *testing.T) {
	const tls = `listen_tls = ["0.0.0.0:8883"]
tls_cert_file = "a"
tls_key_file = "b"
tls_client_ca_file = "c"
`
	for _, c := range []struct {
		keys                   string
		certificateUser        string
		authenticates, anybody bool
	}{
		{"", "", false, true}, // on loopback alone
		{"allow_anonymous = true", "", false, true},
		{`password_file = "p"`, "", true, false},
		{"password_file = \"p\"\nallow_anonymous = true", "", true, true},
		{`jwt_keys_file = "k"`, "", true, false},
		{tls, "cn", true, false},
		{tls + `certificate_user = "auto"`, "cn", true, false},
		{tls + `certificate_user = "san"`, "san", true, false},
		{tls + "certificate_user = \"none\"\npassword_file = \"p\"", "", true, false},
		{"certificate_user = \"none\"\nlisten_tls = []", "", false, true},
	} {
		m := &mustParse(t, "[mqtt]\n"+c.keys+"\n"+smallest).MQTT
		if m.CertificateUser != c.certificateUser || m.Authenticates() != c.authenticates || m.AnonymousMayConnect() != c.anybody {
			t.Errorf("%s: certificate_user %q, authenticates %v, anonymous %v", c.keys, m.CertificateUser, m.Authenticates(), m.AnonymousMayConnect())
		}
	}
}
