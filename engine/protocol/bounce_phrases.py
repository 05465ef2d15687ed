"""Words by which mail systems are known: how bounces, vacation notes and challenges begin, in the field's languages.

Each table is one RE2 pattern, so a text is read once and in linear time, whatever it holds. It matches in any case; a
blank in it is any white space, a line break too. Its lines are one pattern, broken where there was room.
"""

import re2


class Phrases:
    """Whether, and where, one of these patterns is in a text. `first` and `found` take the text in UTF-8."""

    __slots__ = ("_pattern",)

    def __init__(self, patterns: str) -> None:
        options = re2.Options()
        options.case_sensitive = False
        options.log_errors = False
        options.max_mem = 64 << 20
        joined = "".join(line.strip() for line in patterns.splitlines()).replace(" ?", r"\s*").replace(" ", r"\s+")
        self._pattern = re2.compile(f"(?m:{joined})".encode(), options)

    def found(self, text: bytes) -> bool:
        """One of them is in the text."""
        return self._pattern.search(text) is not None

    def first(self, text: bytes) -> int:
        """Where the first one begins; -1 without any."""
        match = self._pattern.search(text)
        return -1 if match is None else int(match.start())

    def ends(self, text: bytes) -> list[int]:
        """Where each of them ends."""
        return [match.end() for match in self._pattern.finditer(text)]


#: Subjects of bounces, at their beginning (behind a tag in brackets).
BOUNCE_SUBJECT = Phrases(
    r"""
    ^(?:\[[^\]]{0,40}\] )?(?:\*+ ?)?(?:notice: )?(?:undeliver|undeliv|returned mail|returned message|
    returned to sender|return(?:ed)? email|mail delivery (?:fail|sys|sub|err|status|problem|delay|warn|notif|report|
    could)|mail could not be|mail not delivered|message (?:could )?not (?:be )?delivered|delivery (?:status|fail|
    report|notif|err|problem|delay|has failed|incomplete|unsuccess|of your)|failure notice|failed mail|
    failed delivery|failure delivery|failed to deliver|delayed|warning: (?:could not|message|mail|return|delivery)|
    error sending|error delivering|non-?deliver|nondeliver|not delivered|mail system error|message undeliverable|
    message delivery|message status|email (?:delivery|could not|not delivered|undeliver|error)|e-mail delivery|
    mail error|mailer-daemon|mailer daemon|bounce(?:d)?\b|could not (?:be )?deliver|could not send|unable to deliver|
    cannot deliver|can't deliver|user unknown|unknown user|unknown recipient|rejected mail|mail rejected|
    message rejected|message blocked|blocked message|notification d['’]|permanent delivery|temporary delivery|
    status notification|rejected:|delivery expired|mail delivery|your message (?:wasn't|was not|could not|to|
    has been (?:delayed|blocked|rejected))|your mail|mail returned|nicht zustellbar|unzustellbar|unzustellbare|
    zustellung|fehlgeschlagene|fehler (?:bei|beim)|mail konnte nicht|nachricht (?:konnte|nicht)|übermittlung|
    benachrichtigung zum|verzögerung|non remis|non distribu|message non|échec|echec|avis de non|courrier non|
    retour de mail|notification de non|rapport de non|votre message n|retardé|no se puede entregar|no entregado|
    no se pudo|error de entrega|notificación de|correo no|mensaje no|devuelto|no entregable|retrasado|fallo |recapito|
    mancat|non recapitabil|notifica di|impossibile|errore (?:nel|di)|ritardo|não é possível|não entregue|nao entregue|
    não entregável|falha|não foi possível|notificação de|devolução|mensagem não|atrasado|onbestelbaar|niet bezorgd|
    bezorging|kan niet worden|mislukt|не доставлено|недоставлен|не удается доставить|не удалось доставить|
    сообщение не|недоставленное|не может быть|ошибка доставки|почтов|уведомление о|письмо не|возврат|задержка|
    не доставлен|недоставка|не доставлено|повідомлення не|niedostarcz|nie można dostarczyć|nie dostarczono|błąd|zwrot|
    nedoručiteln|nelze doručit|doručen|nedoruč|kézbesíthetetlen|nem kézbesíthető|sikertelen|det går inte att leverera|
    ej levererat|olevererbart|kan ikke leveres|ikke leveret|ikke levert|uleverbar|toimitus|ei voi toimittaa|
    ei toimitettu|teslim edile|iletilemedi|teslim|nelivrabil|nu se poate livra|δεν είναι δυνατή|αδυναμία|配信不能|
    配信でき|配信エラー|未配信|配達|送信できません|送信エラー|メール配信|エラーメール|宛先不明|退信|邮件(?:发送|投递|
    退|未)|郵件|系统退信|无法(?:送达|投递|传递)|未送达|無法(?:傳遞|送達)|未傳遞|退回|投递失败|배달|반송|발송 ?실패|
    전송 ?실패|배달되지|메일 ?발송|전달되지)
    """
)

#: What a mail system says of a message it could not deliver.
FAILURE = Phrases(
    r"""
    was (?:automatically )?rejected|could(?: not|n't) be (?:successfully )?(?:delivered|sent|reached|completed|routed|
    relayed)|was(?: not|n't) (?:able to|delivered)|wasn't delivered|unable to (?:deliver|relay|send|complete|reach|
    process)|(?:has|have) not (?:yet )?been (?:delivered|received|sent)|undeliver(?:able|ed)|unable to be delivered|
    failed to (?:be delivered|deliver|reach)|delivery (?:has |to .{1,80} )?failed|delivery (?:to|
    of) .{1,200} (?:failed|delayed|has been)|not (?:been )?delivered to|did not reach|didn't reach|
    couldn't (?:deliver|be)|can(?:not|'t| not) be (?:delivered|reached|found)|permanent (?:fatal )?error|
    returned to sender|returned mail|had delivery problems|were (?:not delivered|undeliverable)|failed (?:address|
    recipient)|failing address|following (?:address|recipient|user)|did not receive|problems? deliver|
    this message was created automatically by|unknown (?:user|address|recipient|local)|user unknown|no such (?:user|
    mailbox|recipient|address|person)|(?:mailbox|user|account|recipient) (?:is |was )?(?:not found|unavailable|full|
    over quota|disabled|does not exist|doesn't exist)|delivery (?:status notification|failure|error|problem|attempt)|
    mail delivery (?:system|subsystem|failed|error)|(?:rejected|refused|bounced) (?:by|your|the)|bounce message|
    message (?:was |has been |is )?(?:rejected|refused|blocked|returned|delayed|deferred)|giving up|not listed in|
    still being retried|will keep trying|continue to try|will be retried|no further action is required|cannot deliver|
    can't deliver|nicht (?:zugestellt|zustellbar|ausgeliefert|übermittelt|erreicht)|unzustellbar|konnte.{1,80}nicht|
    zustellung|n'a pas (?:pu|été)|n'ont pas (?:pu|été)|n’a pas (?:pu|été)|impossible de (?:remettre|livrer)|
    échec de la remise|non remis|n'(?:a|ont) pu être|no se (?:ha podido|pudo|puede|han podido|entreg)|
    no pudo (?:ser )?entreg|error de entrega|non è stato (?:possibile|recapitato|consegnato)|
    impossibile (?:recapitare|consegnare)|mancato recapito|recapito non riuscito|não (?:pôde|foi|pode|
    puderam) (?:ser )?(?:possível|entregue)|falha na entrega|kan niet worden (?:bezorgd|afgeleverd)|
    niet (?:worden )?(?:bezorgd|afgeleverd)|bezorging .{0,60}mislukt|не (?:может быть|было|был|удалось|удаётся|
    удается|смог|могло быть|доставлен)|невозможно доставить|недоставлен|ошибка доставки|не вдалося|nie (?:można|może|
    udało się|został).{0,40}dostarcz|(?:nelze|nemohl|nebylo možné|nebyla) .{0,40}doruč|kézbesít|
    det gick inte att leverera|kunde inte levereras|kunne ikke leveres|ei voitu toimittaa|teslim edilemedi|
    iletilemedi|ulaştırılamadı|nu a putut fi livrat|δεν (?:ήταν δυνατή|παραδόθηκε)|配信(?:でき|不能|され)|送信(?:でき|
    され)|届けることができ|お届けでき|届きません|宛先(?:不明|が見つかり)|配達でき|エラー|(?:未能|无法|無法|
    不能)(?:被)?(?:送达|投递|发送|传递|傳遞|送達|遞送|寄送)|退信|退回|退件|投递失败|发送失败|傳送失敗|배달(?:할 수|
    되지|하지|하는)|전(?:송|달)(?:할 수|되지|하지|에 실패)|반송
    """
)

#: The mail system goes on trying, unless it also says that it does not.
DELAY = Phrases(
    r"""
    warning|delayed|delay|still (?:trying|being|queued)|not yet been|will (?:keep|be retried|continue|try)|
    transient non-fatal|no action is required|do not need to (?:resend|do|re-send)|verzöger|retard|retras|ritardo|
    atrasad|задерж|延迟|遅延|지연
    """
)
FINAL = Phrases(
    r"""
    permanent|giving up|gave up|given up|will not (?:be retried|try)|fatal error|no longer|too long|expired|final\b
    """
)

#: Lines that announce the recipients: what stands right behind them, on the line or below it, is one.
ANCHOR = Phrases(
    r"""
    following (?:e-?mail )?(?:recipient|address|user|destination|mailbox|organization|person|people|
    contact)[^\n]{0,120}|(?:failed|failing|undeliverable|invalid|bad|rejected|unknown|intended|affected|original|
    final|problem)[ -](?:recipient|address|user|mailbox|destination|
    e-?mail)e?s?(?: address(?:es)?)?(?: ?\(s\))?[^\n:]{0,40}:|recipient(?:s|\(s\))?(?: address(?:es)?)?(?:'s)? ?:|
    recipient (?:failed|address|mailbox) ?:?|(?:delivered|sent|deliver|delivery|send|reach|relay|relayed|message|mail|
    email) to(?: the)?(?: following)?(?: recipient| address| user| mailbox
    | destination)?s?(?: address(?:es)?)?(?:\(s\))?:?|(?:did not reach|didn't reach)[^\n]{0,80}|(?:unknown|no such|
    invalid|non-?existent|bad) (?:local )?(?:user|recipient|mailbox|address|part|account)(?:id)?[:\s]|rcpt to ?:|
    undeliverable to|had (?:permanent|transient|delivery|fatal)[^\n]{0,60}|addressed to:?|the following (?:addresses?|
    users?|recipients?)|(?:address|user|username|mailbox|email|e-mail address|envelope-to|e-mail)(?:\(es\))? ?:|
    couldn't be delivered to|was(?: not|n't) delivered to|for (?:the )?(?:recipient|user|address)s?|
    trouble (?:sending|delivering)[^\n]{0,60}|because:|on behalf of|unable to deliver (?:your )?(?:message|
    mail)?[^\n]{0,40}|errors? (?:in|while|when|for|occurred)[^\n]{0,80}|(?:folgende[nmr]?|an) (?:empfänger|adresse|
    e-mail-adresse)n?[^\n]{0,80}|empfänger(?:adresse)?n?:?|nicht an:?|adressaten?:?|an die adresse|
    destinataires?(?: suivants?)?[^\n]{0,60}|adresses? (?:suivantes?|électronique)?[^\n]{0,40}|
    destinatarios?(?: siguientes?)?[^\n]{0,60}|direcci(?:ón|ones)[^\n]{0,40}|
    destinatari[oa]?(?: seguent[ei])?[^\n]{0,60}|indirizz[oi][^\n]{0,40}|destinatários?[^\n]{0,60}|
    endereços?[^\n]{0,40}|geadresseerden?[^\n]{0,40}|ontvangers?[^\n]{0,40}|получател(?:ь|ю|ям|я|ей|и)[^\n]{0,60}|
    адрес(?:у|а|ат|атам|ам|ов|ату)?[^\n]{0,60}|адресат[^\n]{0,40}|odbiorc[^\n]{0,40}|adresat[^\n]{0,40}|
    příjemc[^\n]{0,40}|címzett[^\n]{0,40}|mottagar[^\n]{0,40}|modtager[^\n]{0,40}|mottaker[^\n]{0,40}|
    vastaanottaj[^\n]{0,40}|alıcı[^\n]{0,40}|destinatar[^\n]{0,40}|παραλήπτ[^\n]{0,40}|宛先[^\n]{0,40}|
    受信者[^\n]{0,40}|アドレス[^\n]{0,40}|收件人[^\n]{0,40}|收信人[^\n]{0,40}|收件者[^\n]{0,40}|地址[^\n]{0,40}|
    받는 ?사람[^\n]{0,40}|수신자[^\n]{0,40}
    """
)

#: Lines from which on a bounce shows the message it is about, or its header.
RETURNED = Phrases(
    r"""
    ^old message:|^[>*\s]*[-=_*~+#]{2,}[^\n]{0,40}(?:original|returned|unsent|undelivered|orignal) (?:message|mail|
    e-?mail)[^\n]{0,60}$|^[-=_*~\s]*(?:below|above|enclosed) (?:this line |
    the next line )?is a copy of the (?:message|original|mail)[^\n]{0,60}$|^[-=_*~ ]*this is a copy of (?:the|
    your) (?:original )?message[^\n]{0,80}$|^[-=_*~ ]*(?:the )?(?:header|first|copy|body|text|
    contents?)(?: lines?| of)? ?(?:of )?(?:the|your) (?:original |message|mail)[^\n]{0,80}$|^[-=_*~ ]*(?:the |
    your )?(?:original|returned|unsent|undelivered|unsent|failed) (?:message|mail|e-?mail|
    text)(?:'s)?(?: text| headers?| body| is| was| has been)? ?(?:follows|below|attached|included|enclosed|
    in full)?[ .:]*[-=_*~]*$|^[-=_*~ ]*message headers? follows?[^\n]{0,20}$|^[-=_*~ ]*message (?:header|text|body|
    contents?)s?(?: follows?| suppressed)?[ .:]*[-=_*~ ]*$|^-{2,} ?(?:message|copy of|received message|forwarded|
    mail)[^\n]{0,60}-{2,}$|^original message headers?:?|^(?:a copy of )?(?:the |your )(?:original )?(?:message|mail|
    e-?mail)(?: text| header| you sent)? (?:follows|is (?:attached|included|enclosed|shown|below|
    appended))[^\n]{0,40}$|^return-path: ?<|^received: (?:from|by|\(qmail)|^dkim-signature: ?v=|
    ^content-type: ?message/rfc822|^the following is (?:a copy|the (?:original|header))[^\n]{0,60}$|
    ^--- undelivered message|^\| ?message[^\n]{0,20}$|^[-=_*~ ]*(?:originalnachricht|ursprüngliche nachricht|
    kopie der nachricht|hier folgt der text|der folgende text|der text ihrer|ursprüngliche e-?mail|
    die originalnachricht|header der originalnachricht|der header ihrer)[^\n]{0,60}$|
    ^[-=_*~ ]*(?:message d['’]origine|message original|message initial|en-têtes? d|copie du message|
    ci-dessous)[^\n]{0,60}$|^[-=_*~ ]*(?:mensaje original|encabezados? |copia del mensaje)[^\n]{0,60}$|
    ^[-=_*~ ]*(?:messaggio originale|intestazioni |copia del messaggio)[^\n]{0,60}$|^[-=_*~ ]*(?:mensagem original|
    cabeçalhos? )[^\n]{0,60}$|^[-=_*~ ]*(?:oorspronkelijk|origineel)[^\n]{0,60}$|^[-=_*~ ]*(?:исходное (?:сообщение|
    письмо)|заголовки |оригинал|копия (?:письма|сообщения)|текст письма|ниже приведен)[^\n]{0,60}$|
    ^[-=_*~ ]*(?:元のメッセージ|オリジナル|送信メッセージ|原文|元メール)[^\n]{0,60}$|^[-=_*~ ]*(?:原(?:始)?(?:邮件|信|
    郵件|件)(?:内容|內容|如下)?[:：]?$|以下是(?:您)?(?:的)?(?:原|邮件)|邮件原文|信件原文)[^\n]{0,60}$|
    ^[-=_*~ ]*(?:원본|원래)[^\n]{0,40}$
    """
)

#: Subjects of automatic answers.
AUTO_SUBJECT = Phrases(
    r"""
    ^(?:\[[^\]]{0,40}\] ?)?(?:re ?: |aw ?: |sv ?: |antw ?: )?(?:auto(?:matic|mated|matische|matisch|matisk|matyczna|
    matické|mático|mática|matica|matico|matikus|maattinen|mata)?[- ]?(?:reply|repl|response|respon|answer|antwort|
    svar|odpowied|odpověď|odpov|risposta|resposta|respuesta|válasz|vastaus|generated|re|submitted)|auto(?:matic|
    mated)? (?:out|notif|message|email|confirm|acknowledg)|auto: |autosvar|autoreply|autoresponse|autoresponder|
    out[ -]of[ -](?:the )?office|out of town|ooo\b|away from|i am away|i'm away|on vacation|on leave|on holiday|
    vacation|away notice|maternity leave|annual leave|abwesen|automatische|automatisk|urlaub|außer haus|ausser haus|
    nicht im (?:büro|haus)|réponse automatique|reponse automatique|absence|absent|en congé|hors du bureau|
    message d'absence|respuesta automática|respuesta automatica|fuera de (?:la )?oficina|ausente|ausencia|
    de vacaciones|risposta automatica|fuori (?:ufficio|sede)|assenza|assente|resposta automática|resposta automatica|
    fora do escritório|ausência|automatisch antwoord|afwezig|niet aanwezig|автоответ|автоматическ|нет на месте|
    в отпуске|вне офиса|отсутств|автовідповід|автоматична|odpowiedź automatyczna|automatyczna|nieobecno|poza biurem|
    automatická|nepřítomn|mimo kancelář|automatikus válasz|házon kívül|távollét|frånvaro|autosvar|automatiskt svar|
    automatisk svar|fravær|ikke til stede|ikke på kontoret|automaattinen vastaus|poissaolo|poissa|otomatik yanıt|
    otomatik yanit|ofis dışı|răspuns automat|raspuns automat|în afara biroului|αυτόματη απάντηση|εκτός γραφείου|
    自動応答|自動返信|不在(?:通知|の)|自动(?:回复|答复)|自動(?:回覆|回复)|不在办公室|휴가|부재중|자동 ?(?:응답|회신)|
    מענה אוטומטי|תשובה אוטומטית|رد تلقائي|trả lời tự động|ตอบกลับอัตโนมัติ|balas otomatis|thank you for (?:contacting|
    your (?:e-?mail|message|inquiry))|thanks for (?:contacting|your)|we(?:'ve| have) received your|your (?:message|
    e-?mail|request|inquiry) (?:has been|was) received|read: |not read: |gelesen: |lu ?: |leído: |letto: |прочтено: |
    lida: |gelezen: |ticket |\[ticket|case #|request received|confirmation of receipt|receipt confirmation|acknowledg)|
    [(\[-] ?(?:auto(?:matic)?[- ]?(?:reply|
    response)|out[ -]of[ -](?:the[ -])?office|vacation|abwesenheit)
    """
)

#: What a person says who is away, for messages that carry no mark of it.
AUTO_TEXT = Phrases(
    r"""
    (?:i am|i'm|i will be|i'll be) (?:currently )?(?:out of (?:the )?office|away|on (?:vacation|leave|holiday)|
    out of town|traveling|travelling)|this is an? auto(?:matic|mated|mated|-)?[ -]?(?:reply|response|message|answer|
    generated)|ich bin .{0,60}(?:nicht im (?:büro|haus)|abwesend|im urlaub|außer haus)|
    je suis (?:actuellement )?(?:absent|en congé|en vacances)|estoy (?:fuera|ausente|de vacaciones)|estaré fuera|
    sono (?:fuori|assente|in ferie)|sarò (?:assente|fuori)|estou (?:ausente|fora|de férias)|estarei (?:ausente|fora)|
    ik ben .{0,40}(?:afwezig|niet aanwezig|met vakantie)|(?:я|меня) .{0,40}(?:в отпуске|отсутств|нет в офисе|
    не будет)|это автоматический ответ|автоматическое сообщение|przebywam na urlopie|jestem nieobecn|不在に(?:して|
    し)|休暇(?:中|を)|(?:休假|出差|外出|度假)(?:中|期间)|本人(?:已|正在)|부재중|휴가 ?중|no longer (?:works?|with|
    employed)|maternity leave
    """
)

#: What mail systems do not say in a report: somebody is away, or has got the message and will answer.
ANSWER_TEXT = Phrases(
    r"""
    (?:i am|i'm|i’m|i will be|i'll be|i’ll be) (?:currently |now )?(?:out of (?:the )?office|away (?:from|until|on|
    till|for)|on (?:vacation|leave|holiday|sabbatical|parental|maternity|annual)|out of town|travell?ing|
    on a business trip)|(?:we have|we've|we’ve|i have|has been) (?:successfully )?received (?:your|and (?:will|a))|
    (?:we|i) (?:have )?received your|thanks? (?:you )?(?:very much )?for (?:contacting|writing|reaching|
    your (?:e-?mail|message|mail|inquiry|enquiry|interest|request))|(?:we|i) will (?:get back to|reply to|respond to|
    answer) (?:you|your|all)|(?:a )?(?:support )?ticket .{0,40}(?:has been|was) (?:created|opened|assigned|registered)|
    when i (?:return|am back|get back)|in my absence|ich bin .{0,60}(?:nicht im (?:büro|haus|dienst)|abwesend|
    im urlaub|außer haus|wieder (?:erreichbar|da|im))|(?:während|in) meiner abwesenheit|
    vielen dank für ihre (?:nachricht|e-?mail|mail|anfrage)|wir haben ihre (?:nachricht|anfrage|e-?mail)|
    je (?:suis|serai) (?:actuellement |absente? |en )?(?:absente?|en congés?|en vacances|en déplacement|congés?|
    vacances|du|jusqu)|(?:pendant|durant|en) mon absence|nous avons bien reçu votre|merci (?:de|pour) votre (?:message|
    e-?mail|courriel|mail)|(?:estoy|estaré|me encuentro) (?:fuera|ausente|de vacaciones)|(?:durante|en) mi ausencia|
    hemos recibido su|gracias por (?:su|tu|contactar)|(?:sono|sarò) (?:fuori|assente|in ferie)|(?:durante la|
    in) mia assenza|abbiamo ricevuto|grazie per (?:averci|la (?:sua|tua))|(?:estou|estarei) (?:ausente|fora|de férias|
    em férias)|(?:durante )?a minha ausência|recebemos (?:a )?(?:sua|seu)|obrigad[oa] (?:por|pelo|pela)|
    ik ben .{0,40}(?:afwezig|niet aanwezig|met vakantie|niet op kantoor)|tijdens mijn afwezigheid|
    (?:bedankt|dank u) voor uw (?:e-?mail|bericht)|wij hebben uw|(?:przebywam|jestem) (?:na urlopie|nieobecn|
    poza biurem)|w czasie mojej nieobecności|dziękuj(?:ę|emy) za (?:wiadomość|kontakt)|(?:я|меня) .{0,40}(?:в отпуске|
    в командировке|отсутств|нет в офисе|не будет)|спасибо за (?:ваше|письмо|обращение)|ваше (?:обращение|
    письмо) (?:получено|принято|зарегистрировано)|jsem .{0,40}(?:mimo kancelář|na dovolené|nepřítom)|
    jag är .{0,40}(?:på semester|frånvarande|inte på kontoret|bortrest)|jeg er .{0,40}(?:på ferie|ikke på kontoret|
    fraværende)|olen .{0,40}(?:lomalla|poissa)|(?:ofis dışında|izinde|tatilde)y[iı]m|不在に(?:して|し)|休暇(?:中|を)|
    お問い合わせ(?:を|は)?(?:頂|いただ|受付)|(?:休假|出差|外出|度假)(?:中|期间|期間)|
    本人(?:已|正在)|(?:您|你)的(?:邮件|来信|郵件|來信)(?:已|我已|我们已)(?:收到|经收到)|(?:已收到|收到)(?:您|你)的|
    부재중|휴가 ?중|출장 ?중
    """
)

#: Those who hold mail back until its sender has answered.
CHALLENGE = Phrases(
    r"""
    (?:please )?(?:confirm|verify)(?: that)? (?:your (?:message|e-?mail|mail|identity|delivery)|
    you are (?:a )?(?:human|person|real)|you're (?:a )?human|that you)|confirm(?:ation)? (?:of )?(?:delivery|
    your message)|message (?:is )?(?:awaiting|pending|needs|requires) (?:your )?(?:confirmation|approval|verification|
    authenti)|boxtrapper|spam ?arrest|spamblocker|tmda|to (?:have|get|complete|allow|
    release)(?: the| your| this)?(?: delivery of)?(?: your| this)? (?:message|mail|e-?mail) (?:be )?(?:delivered|
    through|released|to)|challenge[/ -]response|held (?:until|pending|in quarantine until) (?:you|your|confirm|verif)|
    click (?:on )?(?:the )?(?:link|url|here|below)[^\n]{0,60}(?:to (?:confirm|verify|deliver|prove|be added|release|
    complete|approve))|(?:approved|allowed|safe|white) ?-?(?:sender|senders|list)(?:s)? (?:list|so|in order|to)|
    reply to this (?:message|e-?mail|mail)[^\n]{0,60}(?:to (?:confirm|verify|be|have|deliver|complete|release)|
    in order to)|prove (?:that )?you(?:'re| are)|human verification|verification (?:required|request)|
    sender (?:verification|confirmation|authentication|address verification)|one[- ]time (?:confirmation|
    verification)|bitte bestätigen sie (?:ihre|den versand|dass)|confirmez (?:votre|que vous)|
    veuillez confirmer (?:votre|l'envoi)|confirme (?:que|su mensaje|o envio|seu)|conferma(?:re)? (?:il tuo|l'invio|
    il suo)|подтвердите(?:, что| отправку| ваш| доставку|, пожалуйста)|请确认(?:您|你)(?:的邮件|是)|送信者(?:確認|
    認証)|mailblocks|knowspam|digiportal|choicemail|sendio|0spam|uol antispam|antispam ?uol|bluebottle|vanquish|
    active ?spam ?killer|quarantined until
    """
)
#: Words that only such a system uses; one is enough.
CHALLENGER = Phrases(
    r"""
    requires that you verify that you are a real|real live human being|\bverify#\S|\bconf#[0-9a-f]{6}|
    active spam killer|boxtrapper|\btmda\b|tagged message delivery agent|
    i apologize for this automatic reply to your e-?mail[^\n]{0,20}\s+to control spam|
    allow incoming messages only from senders i have approved|spamblocker-challenge|
    protecting (?:myself|my inbox|my e-?mail)[^\n]{0,40} (?:from )?(?:receiving )?(?:junk|spam|unwanted)|
    powered by spam ?arrest|spamlion|antispam uol|anti-?spam da uol|tira-teima|usa o anti-?spam|\bqconfirm\b|
    mail-?in-?black|\bboxbe\b|bluebottle\.com|choicemail|mailfrontier|mailblocks|knowspam|digiportal|
    bitbounce|ipermitmail|sender address verification \(sav\)|spamfence|vanquish(?:labs)? |spamcap|
    для доставки вашего письма (?:необходимо )?(?:подтверд|перейд)|письмо будет доставлено после подтверждения
    """
)
CHALLENGE_SUBJECT = Phrases(
    r"""
    confirm|verif|challenge|approv|human|unconfirmed|authenti|your (?:message|mail|e-?mail) (?:to|was|is)|awaiting|
    action required|please|spam ?arrest|boxtrapper|antispam|bestätig|подтвер|确认|確認
    """
)

#: Of complaints that are not in RFC 5965.
COMPLAINT_TEXT = Phrases(
    r"""
    this is an? (?:email|e-mail|mail|spam|junk)?[ -]?(?:abuse|complaint|feedback) (?:report|feedback|notification|
    message)|(?:was|been|has been) (?:reported|marked|identified|flagged) as (?:spam|junk|abuse|unsolicited|
    unwanted) by (?:a|an|the|one of|our|their|its)? ?(?:user|recipient|customer|subscriber|member|client)|
    complaint about (?:a )?message|(?:user|recipient|customer|member|subscriber)s? (?:has |have )?(?:complained|
    clicked|pressed|used|reported|marked)[^\n]{0,60}(?:spam|junk|abuse|unwanted)|abuse (?:report|complaint) (?:for|
    about|from|concerning)|feedback[- ]loop (?:report|message|complaint|notification)|junk (?:mail|e-?mail) (?:report|
    complaint)|spam (?:report|complaint) from
    """
)
COMPLAINT_SUBJECT = Phrases(
    r"""
    ^(?:re: |fwd: )?(?:complaint about message|complaint (?:from|about)|abuse report|email feedback report|
    feedback (?:loop|report)|fbl|spam (?:report|complaint|feedback)|email abuse report|\[?spam report|
    junk (?:e-?mail )?report|client tos notification|complaint:)
    """
)
