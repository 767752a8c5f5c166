package output

import (
	"strings"
	"time"
)

// DateLayout returns the numeric date format of a locale (%x of strftime). It returns C's
// %m/%d/%y for a locale that is not known or that spells the month. As in glibc, which
// the stock tool uses, %m/%d/%y is accepted as input in every locale.
func DateLayout(locale string) string {
	name, modifier := locale, ""
	if i := strings.IndexByte(name, '@'); i >= 0 {
		name, modifier = name[:i], name[i:]
	}
	if i := strings.IndexByte(name, '.'); i >= 0 {
		name = name[:i]
	}
	for _, want := range [...]string{name + modifier, name} {
		for _, l := range localeDates {
			if want != "" && strings.Contains(l.locales, " "+want+" ") {
				return l.layout
			}
		}
	}
	return "%m/%d/%y"
}

// localeDates lists the locales of glibc 2.36 by their numeric date format.
var localeDates = [...]struct{ layout, locales string }{
	{"%d/%m/%y", " agr_PE anp_IN ar_IN ast_ES ayc_PE bhb_IN bho_IN bho_NP bn_BD bn_IN ca_AD ca_ES ca_FR ca_IT doi_IN " +
		" en_AG en_AU en_GB en_IE en_IL en_IN en_NZ en_SC en_ZM es_AR es_BO es_CL es_CO es_CU es_DO es_EC " +
		" es_ES es_GT es_HN es_MX es_NI es_PA es_PE es_PR es_PY es_SV es_US es_UY es_VE fr_BE gd_GB gl_ES " +
		" gu_IN gv_GB ha_NG he_IL hi_IN hne_IN id_ID ig_NG ik_CA kn_IN kw_GB lg_UG mag_IN mai_IN mai_NP mfe_MU " +
		" mi_NZ miq_NI mjw_IN ml_IN mni_IN mr_IN nhn_MX niu_NU niu_NZ pa_IN quz_PE raj_IN rif_MA sat_IN sd_IN " +
		" shs_CA ta_IN ta_LK tcy_IN unm_US ur_IN uz_UZ yi_US yo_NG yuw_PG "},
	{"%d/%m/%Y", " aa_ER aa_ET af_ZA am_ET an_ES byn_ER dv_MV el_CY el_GR en_BW en_NG en_SG en_ZA en_ZW es_CR ff_SN " +
		" fr_FR gez_ER gez_ET ht_HT it_IT kab_DZ ku_TR lij_IT ln_CD nr_ZA nso_ZA oc_FR om_ET om_KE pa_PK pt_BR " +
		" pt_PT sid_ET sm_WS so_ET so_KE so_SO ss_ZA st_ZA sw_KE sw_TZ syr ti_ER ti_ET tig_ER tn_ZA tpi_PG " +
		" ts_ZA ur_PK ve_ZA vi_VN wa_BE wal_ET xh_ZA zu_ZA "},
	{"%d.%m.%Y", " aa_DJ az_AZ be_BY ber_DZ ber_MA br_FR bs_BA crh_UA cs_CZ cv_RU de_CH de_DE de_IT de_LI dsb_DE et_EE " +
		" fi_FI fr_LU fy_DE hr_HR hsb_DE ia_FR it_CH kk_KZ ky_KG lb_LU li_BE li_NL mg_MG mk_MK nds_DE nds_NL " +
		" os_RU pl_PL ro_RO ru_RU ru_UA rw_RW sk_SK so_DJ sv_FI szl_PL tg_TJ tk_TM tt_RU wo_SN "},
	{"%Y-%m-%d", " csb_PL de_AT de_BE de_LU en_CA en_DK eo fr_CA hu_HU i18n lt_LT nan_TW@latin se_NO si_LK sv_SE wae_CH "},
	{"%d-%m-%y", " fy_NL kok_IN nl_AW nl_BE nl_NL pap_AW pap_CW sa_IN te_IN "},
	{"%Y年%m月%d日", " hak_TW ja_JP nan_TW zh_CN zh_SG zh_TW "},
	{"%d.%m.%y", " cy_GB ga_IE sq_AL sq_MK uk_UA "},
	{"%m/%d/%Y", " ab_GE bem_ZM chr_US en_US ka_GE "},
	{"%Y.%m.%d", " mhr_RU mn_MN sah_RU sgs_LT "},
	{"%d-%m-%Y", " da_DK tr_CY tr_TR "},
	{"%d. %m. %y", " fr_CH fur_IT sc_IT "},
	{"%d.%m.%Y.", " sr_ME sr_RS "},
	{"པསྱི་ལོ%yཟལ%mཚེས%d", " bo_CN bo_IN dz_BT "},
	{"%Y.%d.%m", " ce_RU "},
	{"%Y.%m.%d.", " lv_LV "},
	{"%Y/%m/%d", " ak_GH "},
	{"%Y年%m月%d號", " cmn_TW "},
	{"%Y년 %m월 %d일", " ko_KR "},
	{"%d. %m. %Y", " sl_SI "},
	{"%d/%m-%Y", " fo_FO "},
	{"%e-%m-%Y", " as_IN "},
	{"%e.%m.%Y", " bg_BG "},
	{"%y/%m/%d", " ne_NP "},
}

// AppendDate appends to dst the date and the time of day of t in the format of a locale
// (%x %T of strftime).
func AppendDate(dst []byte, locale string, t time.Time) []byte {
	return appendTime(dst, DateLayout(locale)+" %H:%M:%S", t)
}

// appendTime appends t as strftime does, for the formats in localeDates.
func appendTime(dst []byte, format string, t time.Time) []byte {
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			dst = append(dst, format[i])
			continue
		}
		i++
		var layout string
		switch format[i] {
		case 'd':
			layout = "02"
		case 'e':
			layout = "_2"
		case 'm':
			layout = "01"
		case 'y':
			layout = "06"
		case 'Y':
			layout = "2006"
		case 'H':
			layout = "15"
		case 'M':
			layout = "04"
		case 'S':
			layout = "05"
		default:
			dst = append(dst, '%', format[i])
			continue
		}
		dst = t.AppendFormat(dst, layout)
	}
	return dst
}
