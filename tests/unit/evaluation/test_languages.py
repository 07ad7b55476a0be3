"""How languages are written: codes as people write them, and sentences of each script."""

import pytest

from nmt.evaluation.languages import writing_of_code, writing_of_text


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ("zh ZH zho chi cmn yue zh-TW zh_Hans zho_Hant zh-Hant-HK zh_CN.UTF-8 wuu nan-Hant", "chinese"),
        ("ja jpn ja-JP jpn_Jpan", "japanese"),
        ("ko kor ko_KR kor_Hang", "korean"),
        ("th tha tha_Thai lo lao_Laoo km khm my mya_Mymr bo bod dz dzo_Tibt xx-Thai", "unspaced"),
        ("de en deu_Latn pt-BR en_US.UTF-8 vi hi tgt x zh-Latn ja-Latn yue_Latn nan", None),
    ],
)
def test_codes(codes, expected):
    assert {code: writing_of_code(code) for code in codes.split()} == dict.fromkeys(codes.split(), expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("他们去了商店,买了 3 个苹果。", "chinese"),
        ("马丁", "chinese"),
        ("東京は大きい都市です。", "japanese"),
        ("เขาไปตลาดเพื่อซื้อผลไม้ แล้วกลับบ้าน", "unspaced"),
        ("ລາວ ເປັນປະເທດທີ່ບໍ່ມີທາງອອກສູ່ທະເລ", "unspaced"),
        ("မြန်မာနိုင်ငံသည် အရှေ့တောင်အာရှတွင် တည်ရှိသည်။", "unspaced"),
        ("བོད་ནི་རི་མཐོ་བའི་ས་ཆ་ཞིག་ཡིན།", "unspaced"),
        # Divided into words by a segmenter.
        ("他们 去 了 商店 , 买 了 苹果", None),
        ("เขา ไป ตลาด เพื่อ ซื้อ ผลไม้", None),
        ("그는 시장에 갔다", None),
        ("Ein Mann liest das Wort 中文.", None),
        ("Он читает", None),
        ("123 !", None),
        ("", None),
    ],
)
def test_text(text, expected):
    assert writing_of_text([text] * 3) == expected
    assert writing_of_text([]) is None
